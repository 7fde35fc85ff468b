"""Holds what the program writes against transformers, 4.57.6 or 5.24: whichever the interpreter has. Ends with 1 if anything
differs, with 77 without transformers.

    .venv/bin/python scripts/oracle/check_export.py [--binary B] [--model NAME]

For every golden model (tests/data/models):
    hf            `export --form hf`: refused without trust_remote_code; with it logits (1e-4 of their standard deviation),
                  greedy continuation with a cache, and one of a left-padded batch; bfloat16; hidden states; the program
                  reads the form to the same logits
    training      gradients with and without gradient checkpointing, of both kinds; cross entropy and gradients against the
                  program's own
    saved         save_pretrained and reopening: still FarSkip, still refused, same logits, and the program's
    connectivity  attention only, moe only, the last two layers
    devices       (with accelerate) layers on two devices, one of them the disk
    amd           the form with an auto_map, or that it is refused
    regular       back again, in transformers' own class where that is right
    keys          config.json as transformers 5 writes it (rope_parameters, dtype, num_local_experts): same bits
and `trained`: what pretrain and distill leave is the hf form, or regular, and is read.
"""
import argparse
import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "HF_MODULES_CACHE": tempfile.mkdtemp(prefix="farskip-modules-")}
try:
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoModelForCausalLM
except ImportError as missing:
    print(f"check_export: skipped: {missing}; .venv/bin/pip install transformers==4.57.6 tokenizers==0.22.2 safetensors")
    sys.exit(77)
import torch
from safetensors.torch import load_file

from binary import BUILT, Failure, Farskip
from configs import GOLDEN, V2, V3

transformers.logging.set_verbosity_error()
DATA = Path(__file__).resolve().parents[2] / "tests" / "data" / "models"
LIMIT = 1e-4
TEXT = "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness.\n"
# transformers' own classes compute these models right; the others need what numerics.md lists.
RIGHT_IN_TRANSFORMERS = ("moonlight", "qwen3_moe", "qwen3_moe_dense_middle")
IN_AMDS_FORM = ("moonlight", "instella_moe")


class Wrong(Exception):
    """What differs."""


def ensure(good, what):
    if not good:
        raise Wrong(what)


def same(ours, theirs, what, limit=LIMIT):
    error = float((ours - theirs).abs().max() / theirs.std())
    ensure(error < limit, f"{what} differ by {error:.1e} of their standard deviation")


def load(directory, dtype=torch.float32, trust=True, **how):
    model, report = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, trust_remote_code=trust,
                                                         output_loading_info=True, **how)
    wrong = {key: names for key, names in report.items() if names}
    ensure(not wrong, f"transformers reports {wrong}")
    return model.eval()


@torch.no_grad()
def logits(model, tokens):
    return model(tokens).logits


def refused(directory):
    for trust in (None, False):
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=trust)
        except (ValueError, OSError) as refusal:
            if "trust_remote_code" in str(refusal):
                continue
            raise Wrong(f"not refused for trust_remote_code, but: {refusal}")
        raise Wrong("opens without trust_remote_code")


class Golden:
    """A golden model, its values, and where to write."""

    def __init__(self, farskip, name, scratch):
        self.farskip, self.name, self.scratch = farskip, name, scratch
        self.source, self.values = DATA / name, load_file(DATA / name / "golden.safetensors")
        self.tokens = self.values["tokens"]

    def export(self, *options, source=None, out="out"):
        self.farskip.run("export", source or self.source, "--out", self.scratch / out, *options)
        return self.scratch / out

    def same_in_program(self, directory, kind):
        found, _ = self.farskip.logits(directory, self.tokens, "--dtype", "float32")
        same(found, self.values[f"logits.{kind}"], f"the program's {kind} logits of it")


def check_hf(golden):
    out, tokens = golden.export("--connectivity", "farskip"), golden.tokens
    refused(out)
    golden.same_in_program(out, "farskip")
    model = load(out)
    same(logits(model, tokens), golden.values["logits.farskip"], "logits")
    generated = golden.values["generated.farskip"]
    how = {"max_new_tokens": len(generated), "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    found = model.generate(tokens[:1], **how)[0, tokens.shape[1]:]
    ensure(torch.equal(found, generated), f"generates {found.tolist()}, not {generated.tolist()}")
    padded = torch.cat([torch.zeros(1, 3, dtype=torch.long), tokens[:1, 3:]], 1)
    both, mask = torch.cat([padded, tokens[:1]]), torch.ones(2, tokens.shape[1], dtype=torch.long)
    mask[0, :3] = 0
    found = model.generate(both, attention_mask=mask, **how)
    ensure(torch.equal(found[1, tokens.shape[1]:], generated), "generates other tokens beside a padded row")
    with torch.no_grad():
        states = model(tokens, output_hidden_states=True).hidden_states
    for k, state in enumerate(states[:-1]):
        same(state, golden.values[f"residual.farskip.{k}"], f"hidden states {k}")
    narrow = load(out, torch.bfloat16)
    wide = {name for name, t in narrow.state_dict().items() if t.dtype == torch.float32}
    ensure(all(".mlp.gate." in name for name in wide), f"float32 in a bfloat16 model: {sorted(wide)[:3]}")
    if golden.source.name != "qwen3_moe" and "qwen" not in golden.name:
        ensure(wide, "the router of a bfloat16 model is not in float32")
    close = torch.nn.functional.cosine_similarity(logits(narrow, tokens).float(), golden.values["logits.farskip"], dim=-1)
    ensure(close.median() > 0.99, f"bfloat16 logits have a median cosine of {close.median():.3f} with float32's")


def gradients(model, tokens):
    model.zero_grad(set_to_none=True)
    loss = model(tokens, labels=tokens, use_cache=False).loss
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def check_training(golden):
    out, tokens = golden.export("--connectivity", "farskip"), golden.tokens
    model = load(out).train()
    loss, plain = gradients(model, tokens)
    for reentrant in (False, True):
        model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        model.enable_input_require_grads()
        again, found = gradients(model, tokens)
        ensure(abs(again - loss) < 1e-6 and found.keys() == plain.keys(), f"checkpointing (reentrant {reentrant}) changes the loss")
        for name, gradient in plain.items():
            ensure(torch.allclose(gradient, found[name], rtol=1e-4, atol=1e-6 * float(gradient.abs().max())),
                   f"checkpointing (reentrant {reentrant}) changes the gradient of {name}")
    ours, own = golden.farskip.gradients(out, tokens, "sft")
    ensure(abs(ours - loss) < LIMIT * loss, f"loss {loss} is {ours} in the program")
    compared = [name for name in plain if name in own]
    ensure(len(compared) > 10, "no gradients to compare")
    for name in compared:
        if "embed_tokens" in name:
            continue  # the row of the padding token has no gradient in transformers
        error = float((own[name] - plain[name]).abs().max() / own[name].abs().max())
        ensure(error < 3e-4, f"the gradient of {name} differs by {error:.1e} of its maximum")


def check_saved(golden):
    out, saved, tokens = golden.export("--connectivity", "farskip"), golden.scratch / "saved", golden.tokens
    model = load(out)
    before = logits(model, tokens)
    model.save_pretrained(saved)
    config = json.loads((saved / "config.json").read_text())
    original = json.loads((out / "config.json").read_text())
    for key in ("architectures", "model_type", "farskip", "farskip_start_idx", "farskip_end_idx"):
        ensure(config.get(key) == original[key], f"{key} is saved as {config.get(key)}")
    ensure(config["auto_map"].keys() >= {"AutoConfig", "AutoModelForCausalLM"}, f"auto_map is saved as {config['auto_map']}")
    refused(saved)
    ensure(torch.equal(logits(load(saved), tokens), before), "logits change when saved and reopened")
    golden.same_in_program(saved, "farskip")
    again = golden.export(source=saved, out="again")
    same(logits(load(again), tokens), before, "logits exported again")


def check_connectivity(golden):
    for kind, options in {"attention": ("--connectivity", "attention"), "moe": ("--connectivity", "moe"),
                          "farskip.last2": ("--connectivity", "farskip", "--layers", "last:2")}.items():
        out = golden.export(*options)
        same(logits(load(out), golden.tokens), golden.values[f"logits.{kind}"], f"{kind} logits")
        golden.same_in_program(out, kind)


def check_devices(golden):
    try:
        import accelerate
    except ImportError:
        return "skipped: no accelerate"
    out = golden.export("--connectivity", "farskip")
    depth = json.loads((out / "config.json").read_text())["num_hidden_layers"]
    places = {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
    places |= {f"model.layers.{k}": "disk" if k % 2 else "cpu" for k in range(depth)}
    with accelerate.init_empty_weights():
        empty = AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(out, trust_remote_code=True),
                                                 trust_remote_code=True)
    split = accelerate.infer_auto_device_map(empty, {"cpu": "40KB", "disk": "1GB"},
                                             no_split_module_classes=list(empty._no_split_modules))
    parts = [name for name in split if ".layers." in name and name.count(".") > 2]
    ensure(not parts, f"accelerate splits a layer: {parts[:2]}")
    if json.loads((out / "config.json").read_text())["tie_word_embeddings"]:
        return None
    model = load(out, device_map=places, offload_folder=golden.scratch / "offload")
    same(logits(model, golden.tokens), golden.values["logits.farskip"], "logits")


def check_amd(golden):
    options = ("--connectivity", "farskip", "--form", "amd")
    if golden.name not in IN_AMDS_FORM:
        try:
            golden.export(*options)
        except Failure as failure:
            ensure("--form amd: found" in str(failure), f"refused, but: {failure}")
            return "ok, refused"
        raise Wrong("is not refused")
    out = golden.export(*options)
    config = json.loads((out / "config.json").read_text())
    ensure(config["architectures"] == ["InstellaMoEForCausalLM"] and config["model_type"] == "deepseek_v3", "names")
    ensure(config["gated_attention"] == (golden.name == "instella_moe"), "gated_attention")
    same(logits(load(out), golden.tokens), golden.values["logits.farskip"], "logits")
    golden.same_in_program(out, "farskip")
    bare = golden.export(*options, "--no-auto-map", out="bare")
    ensure("auto_map" not in json.loads((bare / "config.json").read_text()), "auto_map is there")
    ensure(not list(bare.glob("*.py")), "a modeling file is there")
    golden.same_in_program(bare, "farskip")
    golden.same_in_program(golden.export("--form", "hf", source=bare, out="hf"), "farskip")


def check_regular(golden):
    far = golden.export("--connectivity", "farskip")
    out = golden.export("--form", "regular", source=far, out="regular")
    config = json.loads((out / "config.json").read_text())
    kept = [key for key in config if "farskip" in key]
    ensure(kept == (["farskip"] if golden.name == "instella_moe" else []), f"{kept} are kept")
    ensure(not (out / "modeling_farskip.py").exists() and "auto_map" not in config, "the modeling file is kept")
    golden.same_in_program(out, "regular")
    if golden.name in RIGHT_IN_TRANSFORMERS:
        how = {"experts_implementation": "eager"} if transformers.__version__ >= "5" else {}
        same(logits(load(out, trust=False, **how), golden.tokens), golden.values["logits.regular"], "regular logits")


def as_transformers_5(config):
    """The same config under the keys that transformers 5 writes."""
    new = dict(config)
    new["dtype"] = new.pop("torch_dtype")
    scaling = dict(new.pop("rope_scaling") or {"type": "default"})
    new["rope_parameters"] = {"rope_theta": new.pop("rope_theta"), "rope_type": scaling.pop("type")} | scaling
    if "num_experts" in new:
        new["num_local_experts"] = new.pop("num_experts")
    return new


def check_keys(golden):
    new = golden.scratch / "new"
    shutil.copytree(golden.source, new)
    config = json.loads((new / "config.json").read_text())
    (new / "config.json").write_text(json.dumps(as_transformers_5(config), indent=2))
    ours, theirs = (golden.farskip.logits(d, golden.tokens, "--dtype", "float32")[0] for d in (golden.source, new))
    ensure(torch.equal(ours, theirs), "logits differ")
    out = golden.export("--connectivity", "farskip", source=new)
    same(logits(load(out), golden.tokens), golden.values["logits.farskip"], "exported logits")


def byte_tokenizer(file, vocabulary):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
                                  special_tokens=["<s>", "</s>"], show_progress=False)
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.save(str(file))


def check_trained(farskip, scratch):
    """Of two families: a regular model is pretrained, converted by distillation, and compared."""
    for config in (V2 | {"vocab_size": 300}, V3 | {"vocab_size": 300}):
        folder = scratch / config["model_type"]
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "text.txt").write_text(TEXT * 40)
        byte_tokenizer(folder / "tokenizer.json", 300)
        how = ("--data", folder / "text.txt", "--steps", 2, "--batch-tokens", 64, "--sequence", 32, "--dtype", "float32")
        farskip.run("pretrain", "--config", folder / "config.json", "--tokenizer", folder / "tokenizer.json", "--out",
                    folder / "regular", *how)
        regular = json.loads((folder / "regular" / "config.json").read_text())
        ensure(regular["model_type"] == config["model_type"] and not regular.get("farskip"), "a regular model is not its family's")
        farskip.run("distill", folder / "regular", "--out", folder / "far", "--connectivity", "farskip", *how)
        written = json.loads((folder / "far" / "config.json").read_text())
        ensure(written["model_type"] == "farskip_" + config["model_type"], f"distill writes {written['model_type']}")
        lost = [key for key in config if key not in written and not key.startswith("rope_")]
        ensure(not lost, f"config.json lost {lost}")
        refused(folder / "far")
        tokens = torch.randint(4, 300, (2, 24), generator=torch.Generator().manual_seed(5))
        for directory in (folder / "far", max((folder / "far" / "checkpoints").glob("step-*"))):
            ours, _ = farskip.logits(directory, tokens, "--dtype", "float32")
            same(ours, logits(load(directory), tokens), "logits of what distill writes")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--binary", default=BUILT, help="the program (default: build/farskip)")
    arguments.add_argument("--model", choices=[*GOLDEN, "trained"], help="only this golden model, or what training leaves")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    sys.stdin = open(os.devnull)  # transformers asks whether to trust
    print(f"transformers {transformers.__version__}")
    checks = (check_hf, check_training, check_saved, check_connectivity, check_devices, check_amd, check_regular, check_keys)
    bad = 0
    for name in [given.model] if given.model else [*GOLDEN, "trained"]:
        for check in checks if name in GOLDEN else (check_trained,):
            with tempfile.TemporaryDirectory() as scratch:
                farskip = Farskip(given.binary, scratch)
                try:
                    what = (Golden(farskip, name, Path(scratch)),) if name in GOLDEN else (farskip, Path(scratch))
                    verdict = check(*what) or "ok"
                except (Wrong, Failure) as wrong:
                    verdict, bad = f"WRONG: {wrong}", bad + 1
            print(f"{name:26} {check.__name__.removeprefix('check_'):12} {verdict}", flush=True)
    shutil.rmtree(os.environ["HF_MODULES_CACHE"], ignore_errors=True)
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
