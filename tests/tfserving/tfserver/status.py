"""GetModelMetadata, GetModelStatus and HandleReloadConfigRequest."""

from pathlib import Path

from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_management_pb2

from .errors import failed_precondition, invalid
from .models import State

FIELD = "signature_def"


def get_model_metadata(models, request):
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    if not request.metadata_field:
        raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != FIELD:
            raise invalid(f"Metadata field {field} is not supported")
    servable = models.lookup(request.model_spec)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, signature in servable.model.signatures.items():
        signatures.signature_def[name].CopyFrom(signature)
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = servable.name
    response.model_spec.version.value = servable.version
    response.metadata[FIELD].Pack(signatures)
    return response


def get_model_status(models, request):
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    spec = request.model_spec
    number = spec.version.value if spec.WhichOneof("version_choice") == "version" else None
    response = get_model_status_pb2.GetModelStatusResponse()
    for version, state, error in models.status(spec.name, number):
        answer = response.model_version_status.add(version=version, state=state)
        answer.status.SetInParent()
        if error:
            answer.status.error_code = error.code
            answer.status.error_message = error.message
    return response


def platform_of(config):
    """The platform of a ModelConfig, including the deprecated `model_type`."""
    return config.model_platform or ("tensorflow" if config.model_type == 1 else "")


def check_configs(models, configs):
    seen = set()
    for config in configs:
        if config.name in seen:
            raise invalid(f"Illegal to list model {config.name} multiple times in config list")
        seen.add(config.name)
    for config in configs:
        if not Path(config.base_path).is_absolute():
            raise invalid(
                f"Expected model {config.name} to have an absolute path or URI; got base_path()={config.base_path}"
            )
    for config in configs:
        platform = platform_of(config)
        if not platform:
            raise invalid(
                "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
                f"ModelServerConfig::model_platform, model name is {config.name}"
            )
        old = models.configs.get(config.name)
        if old is not None and platform_of(old) != platform:
            raise invalid(
                f"Illegal to change a model's platform. For model {config.name} platform was {platform_of(old)} "
                f"and new platform requested is {platform}"
            )
        if platform != "tensorflow":
            raise invalid(f"Model {config.name} requests unsupported platform {platform}")
    for config in configs:
        available = set()
        if config.version_labels and config.name in models.versions:
            available = {number for number, state, _ in models.status(config.name) if state == State.AVAILABLE}
        for number in config.version_labels.values():
            if number not in available:
                raise failed_precondition(
                    f"Request to assign label to version {number} of model {config.name}, "
                    "which is not currently available for inference"
                )


def reload_config(models, request, context):
    """Like TensorFlow Serving, waits for every new model until the call itself ends."""
    if request.config.WhichOneof("config") != "model_config_list":
        raise invalid(
            "ServerModelConfig type not supported by HandleReloadConfigRequest. "
            "Only ModelConfigList is currently supported"
        )
    configs = list(request.config.model_config_list.config)
    check_configs(models, configs)

    def wake():
        with models.changed:
            models.changed.notify_all()

    context.add_callback(wake)
    models.configure(configs, give_up=lambda: not context.is_active())
    response = model_management_pb2.ReloadConfigResponse()
    response.status.SetInParent()
    return response
