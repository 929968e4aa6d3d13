"""The exception that ends a call with a gRPC status."""

from grpc import StatusCode

CODES = {code.value[0]: code for code in StatusCode}


class StatusError(Exception):
    """A refusal. `code` is the number, which is the same in gRPC and TensorFlow."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = CODES[code].value[0]
        self.message = message

    def grpc(self):
        """(StatusCode, text), with the text truncated as in TensorFlow Serving."""
        data = self.message.encode("utf-8", "replace")
        if len(data) > 1024:
            data = data[:1024] + b"...TRUNCATED"
        return CODES[self.code], data.decode("utf-8", "ignore")


def invalid(message):
    return StatusError(StatusCode.INVALID_ARGUMENT.value[0], message)


def not_found(message):
    return StatusError(StatusCode.NOT_FOUND.value[0], message)


def failed_precondition(message):
    return StatusError(StatusCode.FAILED_PRECONDITION.value[0], message)


def unimplemented(message):
    return StatusError(StatusCode.UNIMPLEMENTED.value[0], message)
