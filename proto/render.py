"""Renders a FileDescriptorProto as a .proto file; raises ValueError for what it does not
support."""

from google.protobuf import descriptor_pb2

Field = descriptor_pb2.FieldDescriptorProto

SCALARS = {
    number: name[len("TYPE_") :].lower()
    for name, number in Field.Type.items()
    if name not in ("TYPE_MESSAGE", "TYPE_ENUM", "TYPE_GROUP")
}
MAX_FIELD = 2**29  # exclusive end of "to max" in a message


def quote(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def option_pairs(options):
    """[(name, value as text)] of the options that are set, without map_entry, which `map<>`
    implies."""
    pairs = []
    for field, value in options.ListFields():
        if field.name == "map_entry":
            continue
        if field.is_extension or field.is_repeated or field.message_type is not None:
            raise ValueError(f"option {field.full_name} is not supported")
        if field.enum_type is not None:
            text = field.enum_type.values_by_number[value].name
        elif isinstance(value, bool):
            text = "true" if value else "false"
        elif isinstance(value, str):
            text = quote(value)
        else:
            text = str(value)
        pairs.append((field.name, text))
    return pairs


def option_lines(options, indent):
    return [f"{indent}option {name} = {text};" for name, text in option_pairs(options)]


def in_brackets(pairs):
    return " [" + ", ".join(f"{name} = {text}" for name, text in pairs) + "]" if pairs else ""


def ranges(items, maximum):
    """`3, 5 to 7, 9 to max` from inclusive pairs."""
    parts = []
    for first, last in items:
        if first == last:
            parts.append(str(first))
        else:
            parts.append(f"{first} to {'max' if last == maximum else last}")
    return ", ".join(parts)


def reserved_lines(inclusive, maximum, names, indent):
    lines = []
    if inclusive:
        lines.append(f"{indent}reserved {ranges(inclusive, maximum)};")
    if names:
        lines.append(f"{indent}reserved {', '.join(quote(name) for name in names)};")
    return lines


class Renderer:
    """Renders one file; appends to `lines` in source order."""

    def __init__(self, descriptor):
        self.file = descriptor
        self.proto3 = descriptor.syntax == "proto3"
        self.lines = []
        if descriptor.syntax not in ("", "proto2", "proto3") or descriptor.extension or descriptor.weak_dependency:
            raise ValueError(f"{descriptor.name}: editions, extensions and weak imports are not supported")

    def type_name(self, field):
        """Scalars by keyword, types of this package by relative name, others by absolute name."""
        if field.type in SCALARS:
            return SCALARS[field.type]
        if field.type == Field.TYPE_GROUP:
            raise ValueError(f"{self.file.name}: {field.name}: groups are not supported")
        package = f".{self.file.package}."
        own = {message.name for message in self.file.message_type} | {enum.name for enum in self.file.enum_type}
        relative = field.type_name[len(package) :]
        if field.type_name.startswith(package) and relative.split(".")[0] in own:
            return relative
        return field.type_name

    def field(self, field, indent, maps, in_oneof):
        pairs = option_pairs(field.options)
        if field.HasField("default_value"):
            default = quote(field.default_value) if field.type == Field.TYPE_STRING else field.default_value
            pairs.insert(0, ("default", default))
        entry = maps.get(field.type_name.rsplit(".", 1)[-1]) if field.type == Field.TYPE_MESSAGE else None
        if entry is not None:
            key, value = entry.field
            kind = f"map<{self.type_name(key)}, {self.type_name(value)}>"
        else:
            kind = self.type_name(field)
            if field.label == Field.LABEL_REPEATED:
                kind = "repeated " + kind
            elif field.label == Field.LABEL_REQUIRED:
                kind = "required " + kind
            elif field.proto3_optional or not (self.proto3 or in_oneof):
                kind = "optional " + kind
        self.lines.append(f"{indent}{kind} {field.name} = {field.number}{in_brackets(pairs)};")

    def message(self, message, indent):
        if message.extension or message.extension_range:
            raise ValueError(f"{self.file.name}: {message.name}: extensions are not supported")
        inner = indent + "  "
        self.lines.append(f"{indent}message {message.name} {{")
        self.lines += option_lines(message.options, inner)
        inclusive = [(item.start, item.end - 1) for item in message.reserved_range]
        self.lines += reserved_lines(inclusive, MAX_FIELD - 1, message.reserved_name, inner)
        maps = {}
        for nested in message.nested_type:
            if nested.options.map_entry:
                maps[nested.name] = nested
            else:
                self.message(nested, inner)
        for enum in message.enum_type:
            self.enum(enum, inner)
        opened = set()
        for field in message.field:
            if not field.HasField("oneof_index") or field.proto3_optional:
                self.field(field, inner, maps, in_oneof=False)
            elif field.oneof_index not in opened:
                opened.add(field.oneof_index)
                self.oneof(message, field.oneof_index, inner, maps)
        self.lines.append(f"{indent}}}")

    def oneof(self, message, index, indent, maps):
        self.lines.append(f"{indent}oneof {message.oneof_decl[index].name} {{")
        self.lines += option_lines(message.oneof_decl[index].options, indent + "  ")
        for field in message.field:
            if field.HasField("oneof_index") and field.oneof_index == index:
                self.field(field, indent + "  ", maps, in_oneof=True)
        self.lines.append(f"{indent}}}")

    def enum(self, enum, indent):
        inner = indent + "  "
        self.lines.append(f"{indent}enum {enum.name} {{")
        self.lines += option_lines(enum.options, inner)
        inclusive = [(item.start, item.end) for item in enum.reserved_range]
        self.lines += reserved_lines(inclusive, 2**31 - 1, enum.reserved_name, inner)
        for value in enum.value:
            self.lines.append(f"{inner}{value.name} = {value.number}{in_brackets(option_pairs(value.options))};")
        self.lines.append(f"{indent}}}")

    def service(self, service):
        self.lines.append(f"service {service.name} {{")
        self.lines += option_lines(service.options, "  ")
        for method in service.method:
            request = ("stream " if method.client_streaming else "") + method.input_type
            response = ("stream " if method.server_streaming else "") + method.output_type
            if option_pairs(method.options):
                raise ValueError(f"{service.name}.{method.name}: method options are not supported")
            self.lines.append(f"  rpc {method.name}({request}) returns ({response});")
        self.lines.append("}")

    def render(self):
        self.lines.append(f'syntax = "{self.file.syntax or "proto2"}";')
        self.lines += ["", f"package {self.file.package};"]
        if self.file.dependency:
            self.lines.append("")
        for index, path in enumerate(self.file.dependency):
            public = "public " if index in self.file.public_dependency else ""
            self.lines.append(f'import {public}"{path}";')
        options = option_lines(self.file.options, "")
        self.lines += ["", *options] if options else []
        for message in self.file.message_type:
            self.lines.append("")
            self.message(message, "")
        for enum in self.file.enum_type:
            self.lines.append("")
            self.enum(enum, "")
        for service in self.file.service:
            self.lines.append("")
            self.service(service)
        return "\n".join(self.lines) + "\n"


def render_file(descriptor):
    """The text of a .proto file that compiles to this descriptor."""
    return Renderer(descriptor).render()
