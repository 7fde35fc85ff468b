"""Tokenizers of model directories, as transformers' AutoTokenizer takes them."""
import json
import os
import re

from hub_settings import Settings

# clean_up_tokenization_spaces, in this order.
_CLEAN_UP = ((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
             (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"))
_FILES = ("tokenizer.json", "tiktoken.model", "vocab.json")
_LONG = 4096  # characters from which on other threads may run while a text is encoded


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
        return "add_bos" in settings.defaults

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

    def decode(self, ids, skip, clean_up):
        text = self.tokenizer.decode(ids, skip_special_tokens=skip)
        for space, without in _CLEAN_UP if clean_up and self.cleans_up else ():
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

    def decode(self, ids, skip, _clean_up):
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
