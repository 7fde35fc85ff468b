"""What stands around a model's vocabulary: its class, special tokens, added tokens.

These hub_*.py are embedded into the program (hub.cpp runs them) and stand for what transformers'
AutoTokenizer does. They import only what they need, and never code that a checkpoint brings.
Mistakes of files are ValueErrors whose text is one line.
"""
import json
import os

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


def one_line(error):
    return " ".join(str(error).split()) or type(error).__name__


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
            elif value is None:
                tokens[key] = None  # said to be none, whatever the class has
            else:
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
