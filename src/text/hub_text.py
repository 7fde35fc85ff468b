"""Tokenizers and chat templates of model directories, as transformers' AutoTokenizer takes them; tables.

Embedded into the program (interpreter.cpp runs it); it imports only what it needs, and never code
that a checkpoint brings. Mistakes of files are ValueErrors whose text is one line.
"""
import json
import os
import re

# What the classes of transformers 4.57 set where tokenizer_config.json is silent. Those with
# add_bos/add_eos make the post-processor from the two, whatever tokenizer.json says.
_END = "<|endoftext|>"
_CLASSES = {
    "LlamaTokenizer": dict(unk_token="<unk>", bos_token="<s>", eos_token="</s>", add_bos=True, add_eos=False),
    "CodeLlamaTokenizer": dict(unk_token="<unk>", bos_token="<s>", eos_token="</s>", add_bos=True, add_eos=False),
    "GemmaTokenizer": dict(unk_token="<unk>", bos_token="<bos>", eos_token="<eos>", pad_token="<pad>",
                           add_bos=True, add_eos=False),
    "CohereTokenizer": dict(unk_token="<UNK>", bos_token="<BOS_TOKEN>", eos_token="<|END_OF_TURN_TOKEN|>",
                            add_bos=True, add_eos=False),
    "GPTNeoXTokenizer": dict(unk_token=_END, bos_token=_END, eos_token=_END, add_bos=False, add_eos=False),
    "GPT2Tokenizer": dict(unk_token=_END, bos_token=_END, eos_token=_END),
    "Qwen2Tokenizer": dict(unk_token=_END, eos_token=_END, pad_token=_END),
}
# The class of a model whose files name none.
_CLASS_OF_MODEL = {
    "deepseek_v2": "LlamaTokenizer", "deepseek_v3": "LlamaTokenizer", "mixtral": "LlamaTokenizer",
    "llama4": "LlamaTokenizer", "llama4_text": "LlamaTokenizer", "olmoe": "GPTNeoXTokenizer",
    "qwen2_moe": "Qwen2Tokenizer", "qwen3_moe": "Qwen2Tokenizer", "granitemoe": "GPT2Tokenizer",
    "granitemoeshared": "GPT2Tokenizer",
}
_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
# clean_up_tokenization_spaces, in this order.
_CLEAN_UP = ((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
             (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"))
_FILES = ("tokenizer.json", "tiktoken.model", "vocab.json")
_LONG = 4096  # characters from which on other threads may run while a text is encoded


def exists(directory):
    return any(os.path.isfile(os.path.join(directory, name)) for name in _FILES)


def read_json(path):
    """The object of a file; {} if there is none."""
    if not os.path.isfile(path):
        return {}
    try:
        with open(path, encoding="utf-8-sig") as file:
            value = json.load(file)
    except (ValueError, OSError, RecursionError) as error:
        raise ValueError(f"{path}: found no JSON ({error}), expected an object") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path}: found {type(value).__name__}, expected an object")
    return value


class Settings:
    """What stands around the vocabulary: the class, special tokens, added tokens."""

    def __init__(self, directory):
        self.path = os.path.join(directory, "tokenizer_config.json")
        self.config = read_json(self.path)
        model = {} if self.config.get("tokenizer_class") else read_json(os.path.join(directory, "config.json"))
        name = self.config.get("tokenizer_class") or model.get("tokenizer_class") \
            or _CLASS_OF_MODEL.get(self._model_type(model), "")
        if not isinstance(name, str):
            raise ValueError(f"{self.path}: tokenizer_class: found {name!r}, expected a text")
        self.class_name = name.removesuffix("Fast")
        self.defaults = _CLASSES.get(self.class_name, {})
        self.added = self._read_added()  # id -> AddedToken
        by_text = {token.content: token for token in self.added.values()}
        self.tokens = self._read_special(directory, by_text)  # name -> AddedToken or text, or a list of them
        if "added_tokens_decoder" not in self.config:
            self._read_old_added(directory)
        self.split_special = self.flag("split_special_tokens", False)

    @staticmethod
    def _model_type(model):
        # A converted checkpoint keeps the tokenizer of the family that it came from.
        return str(model.get("model_type", "")).removeprefix("farskip_")

    def flag(self, key, otherwise):
        value = self.config.get(key)
        if value is None:
            return otherwise
        if not isinstance(value, bool):
            raise ValueError(f"{self.path}: {key}: found {value!r}, expected true or false")
        return value

    def added_token(self, value, place, special=None):
        from tokenizers import AddedToken
        if isinstance(value, str):
            return value
        if not isinstance(value, dict) or not isinstance(value.get("content"), str):
            raise ValueError(f"{place}: found {value!r}, expected a text or an object with content")
        keys = ("single_word", "lstrip", "rstrip", "normalized", "special")
        given = {key: bool(value[key]) for key in keys if value.get(key) is not None}
        if special is not None:
            given["special"] = special
        return AddedToken(value["content"], **given)

    def _read_added(self):
        added = {}
        for index, value in (self.config.get("added_tokens_decoder") or {}).items():
            place = f"{self.path}: added_tokens_decoder: {index}"
            if not isinstance(value, dict):
                raise ValueError(f"{place}: found {value!r}, expected an object")
            try:
                added[int(index)] = self.added_token(value, place)
            except ValueError as error:
                raise ValueError(f"{place}: found {value!r}, expected an id and a token") from error
        return added

    def _read_old_added(self, directory):
        """added_tokens.json, which stands where added_tokens_decoder does not."""
        from tokenizers import AddedToken
        path = os.path.join(directory, "added_tokens.json")
        special = {token if isinstance(token, str) else token.content for token in self.all_special()}
        for text, index in read_json(path).items():
            if not isinstance(index, int):
                raise ValueError(f"{path}: {text}: found {index!r}, expected an id")
            self.added[index] = AddedToken(text, normalized=text not in special, special=text in special)

    def _read_special(self, directory, by_text):
        tokens = {name: self.defaults.get(name) for name in _NAMES}
        tokens["additional_special_tokens"] = []
        given = dict(self.config)
        if "added_tokens_decoder" not in self.config:  # files from before it had its own word
            path = os.path.join(directory, "special_tokens_map.json")
            for key, value in read_json(path).items():
                if key == "additional_special_tokens" and isinstance(value, list):
                    value = list(given.get(key) or []) + [v for v in value if v not in (given.get(key) or [])]
                given[key] = value
        extra = given.get("extra_special_tokens") or given.get("model_specific_special_tokens") or {}
        if isinstance(extra, list):  # transformers 5's word for additional_special_tokens
            given["additional_special_tokens"] = list(given.get("additional_special_tokens") or []) + extra
            extra = {}
        known = _NAMES + ("additional_special_tokens",)
        for key, value in list((k, given[k]) for k in known if k in given) + list(extra.items()):
            place = f"{self.path}: {key}"
            if key == "additional_special_tokens":
                if not isinstance(value or [], list):
                    raise ValueError(f"{place}: found {value!r}, expected a list")
                tokens[key] = [by_text.get(str(t), t) for t in
                               (self.added_token(v, place, True) for v in value or [])]
            elif value is not None:
                token = self.added_token(value, place)
                tokens[key] = by_text.get(str(getattr(token, "content", token)), token)
        return {name: token for name, token in tokens.items() if token}

    def texts(self):
        """As templates know them: name -> text, or a list of texts."""
        text = lambda token: token if isinstance(token, str) else token.content
        return {name: [text(t) for t in token] if isinstance(token, list) else text(token)
                for name, token in self.tokens.items()}

    def all_special(self):
        flat = []
        for token in self.tokens.values():
            flat += token if isinstance(token, list) else [token]
        return flat


class FastBackend:
    """A tokenizer.json, or vocab.json and merges.txt, by `tokenizers`."""

    def __init__(self, directory, settings):
        import tokenizers
        self.tokenizer = self._load(directory, settings, tokenizers)
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.tokenizer.encode_special_tokens = settings.split_special
        self._add_tokens(settings, tokenizers.AddedToken)
        self._set_prefix_space(settings, tokenizers.pre_tokenizers)
        self.cleans_up = settings.flag("clean_up_tokenization_spaces", False)
        if self._sets_ends(settings):
            self._set_ends(settings, tokenizers.processors)

    @staticmethod
    def _load(directory, settings, tokenizers):
        path = os.path.join(directory, "tokenizer.json")
        if os.path.isfile(path):
            try:
                return tokenizers.Tokenizer.from_file(path)
            except BaseException as error:  # a panic of the library is no Exception
                raise ValueError(f"{path}: found a file that tokenizers {tokenizers.__version__} can't "
                                 f"read ({error}), expected a tokenizer") from None
        vocabulary, merges = (os.path.join(directory, name) for name in ("vocab.json", "merges.txt"))
        if settings.class_name not in ("GPT2Tokenizer", "Qwen2Tokenizer") or not os.path.isfile(merges):
            raise ValueError(f"{directory}: found vocab.json of {settings.class_name or 'no class'}, expected "
                             "tokenizer.json (made by AutoTokenizer.from_pretrained(...).save_pretrained(...))")
        return byte_level(tokenizers, vocabulary, merges, settings)

    def _add_tokens(self, settings, AddedToken):
        known = {repr(token) for token in self.tokenizer.get_added_tokens_decoder().values()}
        new = [token for _, token in sorted(settings.added.items()) if repr(token) not in known]
        text = lambda token: token if isinstance(token, str) else token.content
        encoder = {token.content for token in self.tokenizer.get_added_tokens_decoder().values()}
        encoder |= {text(token) for token in new}
        special = settings.all_special()
        new += [token for i, token in enumerate(special)
                if text(token) not in encoder and text(token) not in map(text, special[:i])]
        names = {text(token) for token in special}
        for i, token in enumerate(new):
            is_special = text(token) in names or bool(getattr(token, "special", False))
            if isinstance(token, str):
                new[i] = AddedToken(token, special=is_special)
            else:
                token.special = is_special
        if new:
            self.tokenizer.add_tokens(new)

    def _set_prefix_space(self, settings, pre_tokenizers):
        try:
            state = json.loads(self.tokenizer.pre_tokenizer.__getstate__())
        except Exception:  # none, or one that keeps no state
            return
        wanted = settings.flag("add_prefix_space", False)
        if state.get("add_prefix_space", wanted) != wanted:
            kind = getattr(pre_tokenizers, state.pop("type"))
            self.tokenizer.pre_tokenizer = kind(**{**state, "add_prefix_space": wanted})

    @staticmethod
    def _sets_ends(settings):
        says = any(settings.config.get(key) is not None for key in ("add_bos_token", "add_eos_token"))
        return "add_bos" in settings.defaults or (settings.class_name == "TokenizersBackend" and says)

    def _set_ends(self, settings, processors):
        single, pair, tokens = ["$A:0"], ["$B:1"], []
        for key, front in (("bos", True), ("eos", False)):
            if not settings.flag(f"add_{key}_token", settings.defaults.get(f"add_{key}", False)):
                continue
            text = settings.texts().get(f"{key}_token")
            index = None if text is None else self.tokenizer.token_to_id(text)
            if index is None:
                raise ValueError(f"{settings.path}: add_{key}_token: found true and {key}_token {text!r}, "
                                 f"expected a {key}_token of the vocabulary")
            tokens.append((text, index))
            single.insert(0 if front else len(single), f"{text}:0")
            pair.insert(0 if front else len(pair), f"{text}:1")
        self.tokenizer.post_processor = processors.TemplateProcessing(
            single=single, pair=single + pair, special_tokens=tokens)

    def encode(self, text, special):
        if len(text) < _LONG:
            return self.tokenizer.encode(text, add_special_tokens=special).ids
        return self.tokenizer.encode_batch_fast([text], add_special_tokens=special)[0].ids

    def decode(self, ids, skip):
        text = self.tokenizer.decode(ids, skip_special_tokens=skip)
        for space, without in _CLEAN_UP if self.cleans_up else ():
            text = text.replace(space, without)
        return text

    def id_of(self, token):
        return self.tokenizer.token_to_id(token)

    def special_ids(self):
        return [i for i, token in self.tokenizer.get_added_tokens_decoder().items() if token.special]

    def tokens(self):
        vocabulary = self.tokenizer.get_vocab(True)
        tokens = [""] * (1 + max(vocabulary.values(), default=-1))
        for token, index in vocabulary.items():
            tokens[index] = token
        return tokens

    def spelling(self):
        steps = _steps(self.tokenizer.decoder)
        if steps and steps[0]["type"] == "ByteLevel" and all(s["type"] == "Fuse" for s in steps[1:]):
            return "byte_level"
        return "pieces"


class TiktokenBackend:
    """A tiktoken.model of Moonlight's and Kimi's form, by `tiktoken`; their pattern is theirs."""

    PATTERN = "|".join((
        r"[\p{Han}]+",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*"
        r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+"
        r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"))
    RESERVED = 256 + 2
    SPECIAL = ("<|im_end|>", "<|im_user|>", "<|im_assistant|>", "<|start_header_id|>", "<|end_header_id|>",
               "[EOT]", "<|im_system|>", "<|im_middle|>")  # where the config names none
    MOST_TEXT, MOST_RUN = 400_000, 25_000  # characters that the library takes at once

    def __init__(self, directory, settings):
        import tiktoken
        import tiktoken.load
        path = os.path.join(directory, "tiktoken.model")
        if settings.class_name != "TikTokenTokenizer":
            raise ValueError(f"{directory}: found tiktoken.model of {settings.class_name or 'no class'}, expected "
                             "a TikTokenTokenizer (Moonlight, Kimi) or tokenizer.json")
        try:
            ranks = tiktoken.load.load_tiktoken_bpe(path)
        except Exception as error:
            raise ValueError(f"{path}: found a damaged file ({error}), expected lines of base64 and rank") from None
        names = {i: token.content for i, token in settings.added.items()}
        self.special = {names.get(i, f"<|reserved_token_{i}|>"): i
                        for i in range(len(ranks), len(ranks) + self.RESERVED)}
        settings.tokens.setdefault("bos_token", "[BOS]")
        settings.tokens.setdefault("eos_token", "[EOS]")
        settings.tokens.setdefault("additional_special_tokens", list(self.SPECIAL))
        self.encoding = tiktoken.Encoding(os.path.basename(path), pat_str=self.PATTERN, mergeable_ranks=ranks,
                                          special_tokens=self.special)
        texts = [t if isinstance(t, str) else t.content for t in settings.all_special()]
        self.hidden = {self.special[t] for t in texts if t in self.special}

    def _pieces(self, text):
        """What the library takes without fear: neither too long nor with too long a run of one kind."""
        for begin in range(0, len(text), self.MOST_TEXT):
            part = text[begin:begin + self.MOST_TEXT]
            for match in re.finditer(r"\s+|\S+", part) if len(part) > self.MOST_RUN else ():
                if len(match[0]) > self.MOST_RUN:
                    break
            else:
                yield part
                continue
            start = run = 0
            for i, char in enumerate(part):
                run = run + 1 if i and char.isspace() == part[i - 1].isspace() else 1
                if run > self.MOST_RUN:
                    yield part[start:i]
                    start, run = i, 1
            yield part[start:]

    def encode(self, text, special):
        ids = []
        for piece in self._pieces(text):
            ids += self.encoding.encode(piece, allowed_special="all")
        return ids  # these models set nothing around a text

    def decode(self, ids, skip):
        return self.encoding.decode([i for i in ids if not (skip and i in self.hidden)])

    def id_of(self, token):
        if token in self.special:
            return self.special[token]
        try:
            return self.encoding.encode_single_token(bytes(_UNPRINTED[c] for c in token))
        except KeyError:
            return None

    def special_ids(self):
        return sorted(self.hidden)

    def tokens(self):
        return [self.encoding.decode_single_token_bytes(i) for i in range(self.encoding.n_vocab)]

    def spelling(self):
        return "bytes"


class Tokenizer:
    def __init__(self, directory):
        self.settings = Settings(directory)
        kinds = [name for name in _FILES if os.path.isfile(os.path.join(directory, name))]
        if not kinds:
            other = [n for n in ("tokenizer.model", "spiece.model", "tekken.json") if
                     os.path.isfile(os.path.join(directory, n))]
            raise ValueError(f"{directory}: found {other[0] if other else 'no tokenizer'}, expected tokenizer.json"
                             + (" (made by AutoTokenizer.from_pretrained(...).save_pretrained(...))" if other else
                                " or tiktoken.model"))
        backend = TiktokenBackend if kinds[0] == "tiktoken.model" else FastBackend
        self.backend = backend(directory, self.settings)
        self.encode = self.backend.encode
        self.decode = self.backend.decode
        self.id_of = self.backend.id_of
        self.tokens = self.backend.tokens  # by id, spelt as spelling() says (see token_bytes.h)
        self.spelling = self.backend.spelling
        self.special_ids = self.backend.special_ids()
        self.special_tokens = {k: v for k, v in self.settings.texts().items() if isinstance(v, str)}


def byte_level(tokenizers, vocabulary, merges, settings):
    """GPT-2's and Qwen2's tokenizers from the files of their slow classes."""
    from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors
    tokenizer = tokenizers.Tokenizer(models.BPE.from_file(vocabulary, merges))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    if settings.class_name == "GPT2Tokenizer":
        prefix = settings.flag("add_prefix_space", False)
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
        return tokenizer
    pattern = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
               r"\s*[\r\n]+|\s+(?!\S)|\s+")
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return tokenizer


def _unprinted():
    """GPT-2's printable stand-ins for bytes, back to the bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(b): b for b in plain}
    table.update({chr(256 + n): b for n, b in enumerate(b for b in range(256) if b not in plain)})
    return table


_UNPRINTED = _unprinted()


def _steps(decoder):
    if decoder is None:
        return []
    state = json.loads(decoder.__getstate__())
    return state["decoders"] if state["type"] == "Sequence" else [state]


# Chat templates


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
            raise ValueError(f"{self.name}: line {error.lineno}: {_line(error)}") from None
        except jinja2.exceptions.TemplateError as error:
            raise ValueError(f"{self.name}: {_line(error)}") from None
        except RecursionError:
            raise ValueError(f"{self.name}: found a template that calls itself without end") from None
        except Exception as error:  # whatever a template can do wrong
            raise ValueError(f"{self.name}: {type(error).__name__}: {_line(error)}") from None
        text = "".join(parts)
        if open_end:
            text = _cut_open(text, last, self.name)
        return text, _in_bytes(text, spans)


def _read_text(path):
    with open(path, encoding="utf-8", newline="") as file:
        return file.read().replace("\r\n", "\n")


def _line(error):
    return " ".join(str(error).split()) or type(error).__name__


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


# Tables


class Table:
    """The rows of a Parquet file, or of an Arrow file or stream, as JSON lines, some at a time."""

    def __init__(self, path):
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
        self.path, self.error = path, pyarrow.ArrowException
        try:
            with open(path, "rb") as file:
                magic = file.read(6)
            if magic[:4] == b"PAR1":
                self.batches = pyarrow.parquet.ParquetFile(path).iter_batches(1024)
            elif magic == b"ARROW1":
                reader = pyarrow.ipc.open_file(path)
                self.batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
            else:
                self.batches = iter(pyarrow.ipc.open_stream(path))
        except (self.error, OSError) as error:
            self._refuse(error)

    def _refuse(self, error):
        raise ValueError(f"{self.path}: found no Parquet or Arrow data that can be read ({_line(error)}), "
                         "expected some") from None

    def read(self):
        """Lines, or nothing at the end."""
        try:
            for batch in self.batches:
                if batch.num_rows:
                    rows = batch.to_pylist()
                    return "".join(json.dumps(_plain(row), ensure_ascii=False) + "\n" for row in rows)
        except (self.error, OSError) as error:
            self._refuse(error)
        return ""


def _plain(value):
    """What JSON can say. A table has all fields in all rows: those that are null are left out."""
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and value - value != 0:  # NaN, infinity
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return f"<{len(value)} bytes>"
    return str(value)
