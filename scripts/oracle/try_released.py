"""Tries every verb on models as they are released: a real config.json with its widths and depth cut, random weights, a real
tokenizer. Prints a row of docs/compatibility.md a model.

    .venv/bin/python scripts/oracle/try_released.py CONFIG.json=TOKENIZER_FOLDER ... [--binary B] [--keep DIR]

What is cut: depth, widths, experts; what stays: every other field, the vocabulary and the files of the tokenizer. A verb is
`yes` where it ended well and its result was looked at (tokens equal those of transformers' AutoTokenizer where that reads the
folder, the converted model's logits equal those of the same folder in transformers), else what it said.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false",
               "HF_MODULES_CACHE": tempfile.mkdtemp(prefix="farskip-modules-")}
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from binary import BUILT, Failure, Farskip, random_tokens

transformers.logging.set_verbosity_error()
CUT = {"num_hidden_layers": 3, "hidden_size": 128, "intermediate_size": 96, "moe_intermediate_size": 32, "num_attention_heads": 4,
       "num_key_value_heads": 4, "q_lora_rank": 32, "kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8,
       "qk_head_dim": 24, "v_head_dim": 16, "head_dim": 16, "n_routed_experts": 16, "num_experts": 16, "num_experts_per_tok": 4,
       "first_k_dense_replace": 1}
TEXT = "It was the best of times, it was the worst of times; 狡兔三窟, 12345 naïve 🦊\n"
TALK = [{"role": "user", "content": "What is 2 + 2?"}, {"role": "assistant", "content": "It is 4."}]
COLUMNS = ("inspect", "tokens", "template", "generate", "serve", "distill", "export")


def cut_config(path):
    config = json.loads(Path(path).read_text())
    config.pop("quantization_config", None)
    return config | {key: value for key, value in CUT.items() if config.get(key) is not None and config[key] > value}


def make(folder, config, tokenizer, program):
    """The model in `folder`; by transformers where its own class computes this config."""
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    if config["architectures"] == ["InstellaMoEForCausalLM"]:
        rows = folder / "rows.txt"
        rows.write_text(TEXT * 20)
        program.run("pretrain", "--config", folder / "config.json", "--tokenizer", tokenizer, "--data", rows, "--out", folder / "made",
                    "--steps", 1, "--sequence", 32, "--batch-tokens", 64, "--dtype", "bfloat16")
        shutil.copytree(folder / "made", folder, dirs_exist_ok=True)
        shutil.rmtree(folder / "made")
        return
    torch.manual_seed(0)
    known = {key: value for key, value in config.items() if key != "auto_map"}
    settings = AutoConfig.for_model(**known)
    AutoModelForCausalLM.from_config(settings, dtype=torch.bfloat16).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config, indent=1))  # as it is released, not as it is saved
    for file in Path(tokenizer).iterdir():
        shutil.copy(file, folder)


def chats(folder):
    """Whether a chat template is there."""
    config = folder / "tokenizer_config.json"
    return (folder / "chat_template.jinja").exists() or config.exists() and "chat_template" in json.loads(config.read_text())


def tried(work):
    try:
        return work() or "yes"
    except Failure as failure:
        return str(failure).split(": ", 1)[-1]
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def tokens(program, folder, tokenizer):
    (folder / "plain.jsonl").write_text(json.dumps({"text": TEXT}) + "\n")
    ids = json.loads(program.run("data", folder / "plain.jsonl", "--model", folder, "--show", 1, "--json"))["shown"][0]["ids"]
    if tokenizer is None:
        return "yes, without transformers beside it"
    expected = tokenizer.encode(TEXT)
    if ids[:len(expected)] != expected:
        return f"found {ids[:8]}, expected {expected[:8]}"


def template(program, folder, _):
    if not chats(folder):
        return "none beside it"
    (folder / "talk.jsonl").write_text(json.dumps({"messages": TALK}) + "\n")
    program.run("data", folder / "talk.jsonl", "--model", folder, "--show", 1)


def generate(program, folder, _):
    program.run("generate", folder, "--prompt", "Once upon a time", "--max-new-tokens", 4, "--temperature", 0)


def serve(program, folder, _):
    chat = chats(folder)
    server = subprocess.Popen([program.binary, "serve", folder, "--port", "0", "--threads", "1"], stdout=subprocess.PIPE, text=True)
    try:
        line = server.stdout.readline()
        address = line.split(" at http://")[1].strip()
        body = {"max_tokens": 4, **({"messages": TALK[:1]} if chat else {"prompt": "Once"})}
        request = urllib.request.Request(f"http://{address}/v1/{'chat/' if chat else ''}completions", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        usage = json.load(urllib.request.urlopen(request))["usage"]
        if not 1 <= usage["completion_tokens"] <= 4:
            return f"found {usage}"
        return None if chat else "yes, text alone"
    finally:
        server.terminate()
        server.wait()


def distill(program, folder, _):
    if json.loads((folder / "config.json").read_text()).get("farskip"):
        shutil.copytree(folder, folder / "far")
        return "none: it is FarSkip as it is"
    row = {"messages": TALK} if chats(folder) else {"prompt": "2 + 2", "response": " = 4"}
    (folder / "talk.jsonl").write_text((json.dumps(row) + "\n") * 8)
    program.run("distill", folder, "--data", folder / "talk.jsonl", "--out", folder / "far", "--steps", 2, "--batch-tokens", 64,
                "--sequence", 64)


def export(program, folder, _):
    program.run("export", folder / "far", "--out", folder / "hf")
    asked = random_tokens(json.loads((folder / "config.json").read_text()), 1)
    ours, _ = program.logits(folder / "hf", asked, "--dtype", "float32")
    model = AutoModelForCausalLM.from_pretrained(folder / "hf", dtype=torch.float32, trust_remote_code=True).eval()
    with torch.no_grad():
        theirs = model(asked).logits
    error = float((ours - theirs).abs().max() / theirs.std())
    if error > 1e-4:
        return f"logits differ by {error:.1e}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="CONFIG.json=TOKENIZER_FOLDER")
    parser.add_argument("--binary", default=BUILT)
    parser.add_argument("--keep", help="leave the models in this folder")
    given = parser.parse_args()
    print(f"| model | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}")
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        for model in given.models:
            config, tokenizer = model.split("=")
            name = Path(config).name.removesuffix(".config.json")
            folder = Path(given.keep or scratch) / name
            folder.mkdir(parents=True)
            program = Farskip(given.binary, folder)
            make(folder, cut_config(config), tokenizer, program)
            try:
                theirs = AutoTokenizer.from_pretrained(folder)
            except Exception:  # one whose code is in its folder
                theirs = None
            results = {"inspect": tried(lambda: program.run("inspect", folder) and None)}
            for column in COLUMNS[1:]:
                results[column] = tried(lambda: globals()[column](program, folder, theirs))
            failed += sum(not result.startswith(("yes", "none")) for result in results.values())
            print(f"| {name} | {' | '.join(results.values())} |", flush=True)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
