"""Chat templates of model directories, as transformers renders them."""
import json
import os

from hub_settings import Settings, one_line, read_json

def _environment():
    import datetime
    import jinja2
    import jinja2.ext
    import jinja2.sandbox

    class Generation(jinja2.ext.Extension):
        """{% generation %}: notes where what the assistant says begins and ends in the text."""
        tags = {"generation"}

        def parse(self, parser):
            line = next(parser.stream).lineno
            body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
            call = self.call_method("note", [jinja2.nodes.ContextReference()])
            return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

        def note(self, context, caller):
            text = caller()
            parts, spans = context.get(_NOTES) or ((), [])
            begin = sum(map(len, parts))
            spans.append((begin, begin + len(text)))
            return text

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    return environment


_NOTES = "__farskip_generation__"
_OPEN_END = "CONTINUE_HERE_7c1f "  # stands where the last message is left open


class Templates:
    """The chat templates of a directory, by name."""

    def __init__(self, directory, source=None, name=""):
        self.tokens = Settings(directory).texts()
        self.name, self.sources = name, {"default": source}
        if source is None:
            self.name, self.sources = self._read(directory)
        self.sorts_tools = self._sorts_tools(directory)
        self.compiled = {}
        self.environment = None

    @staticmethod
    def _read(directory):
        path = os.path.join(directory, "tokenizer_config.json")
        name, sources = f"{path}: chat_template", {}
        given = read_json(path).get("chat_template")
        if isinstance(given, str):
            sources = {"default": given}
        elif isinstance(given, (list, dict)):
            pairs = given.items() if isinstance(given, dict) else (
                (e.get("name"), e.get("template")) if isinstance(e, dict) else (None, None) for e in given)
            sources = dict(pairs)
        elif given is not None:
            raise ValueError(f"{name}: found {given!r}, expected a text or named templates")
        if not all(isinstance(part, str) for pair in sources.items() for part in pair):
            raise ValueError(f"{name}: found an entry without name or template, expected both to be texts")
        path = os.path.join(directory, "chat_template.json")
        if (text := read_json(path).get("chat_template")) is not None:
            name, sources = path, {"default": text} if isinstance(text, str) else dict(text)
        path = os.path.join(directory, "chat_template.jinja")
        folder = os.path.join(directory, "additional_chat_templates")
        if os.path.isfile(path):
            name, sources = path, {"default": _read_text(path)}
        if os.path.isdir(folder):
            sources.update((file.removesuffix(".jinja"), _read_text(os.path.join(folder, file)))
                           for file in sorted(os.listdir(folder)) if file.endswith(".jinja"))
        return name, sources

    @staticmethod
    def _sorts_tools(directory):
        # Kimi's own tokenizer class gives templates the keys of tools in order.
        classes = read_json(os.path.join(directory, "tokenizer_config.json")).get("auto_map") or {}
        return "tokenization_kimi." in json.dumps(classes)

    def choose(self, tools):
        """The source for a conversation with these tools; None if there is none."""
        return self.sources.get("tool_use" if tools and "tool_use" in self.sources else "default")

    def _template(self, source):
        if source not in self.compiled:
            self.environment = self.environment or _environment()
            self.compiled[source] = self.environment.from_string(source)
        return self.compiled[source]

    def render(self, messages, tools, documents, variables, add_generation_prompt, open_end):
        """The text, and the (begin, end) of what generation blocks wrote, in bytes of UTF-8."""
        import jinja2
        messages, tools, documents, variables = (json.loads(v) for v in (messages, tools, documents, variables))
        if not isinstance(messages, list):
            raise ValueError(f"messages: found {type(messages).__name__}, expected a list")
        if tools and self.sorts_tools:
            tools = json.loads(json.dumps(tools, sort_keys=True))
        last = _leave_open(messages) if open_end else None
        source = self.choose(tools)
        if source is None:
            raise ValueError(f"{self.name}: found only {', '.join(sorted(self.sources))}, "
                             'expected a template named "default"')
        parts, spans = [], []
        try:
            given = {**self.tokens, **(variables or {}), "messages": messages, "tools": tools,
                     "documents": documents, "add_generation_prompt": add_generation_prompt,
                     _NOTES: (parts, spans)}
            for part in self._template(source).generate(**given):
                parts.append(part)
        except jinja2.exceptions.TemplateSyntaxError as error:
            raise ValueError(f"{self.name}: line {error.lineno}: {one_line(error)}") from None
        except jinja2.exceptions.TemplateError as error:
            raise ValueError(f"{self.name}: {one_line(error)}") from None
        except RecursionError:
            raise ValueError(f"{self.name}: found a template that calls itself without end") from None
        except Exception as error:  # whatever a template can do wrong
            raise ValueError(f"{self.name}: {type(error).__name__}: {one_line(error)}") from None
        text = "".join(parts)
        if open_end:
            text = _cut_open(text, last, self.name)
        return text, _in_bytes(text, spans)


def _read_text(path):
    with open(path, encoding="utf-8", newline="") as file:
        return file.read().replace("\r\n", "\n")


def _leave_open(messages):
    """Marks the end of the last message; returns its text."""
    message = messages[-1] if messages else None
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        for block in reversed(content):
            if isinstance(block, dict) and isinstance(block.get("text"), str):
                text, block["text"] = block["text"], block["text"] + _OPEN_END
                return text
    if not isinstance(content, str):
        raise ValueError("continue_final_message: found a last message without text, expected some to go on with")
    message["content"] = content + _OPEN_END
    return content


def _cut_open(text, last, name):
    mark = _OPEN_END.strip()
    if mark not in text or last.strip() not in text:
        raise ValueError(f"{name}: found that the last message is not written as it is, expected it for "
                         "continue_final_message")
    at = text.rindex(mark)
    kept = text[at:at + len(_OPEN_END)] == _OPEN_END
    return text[:at] if kept else text[:at].rstrip()


def _in_bytes(text, spans):
    result, seen, length = [], 0, 0
    for begin, end in spans:
        if begin >= len(text):
            continue
        length += len(text[seen:begin].encode())
        inner = len(text[begin:end].encode())
        result.append((length, length + inner))
        length, seen = length + inner, min(end, len(text))
    return result
