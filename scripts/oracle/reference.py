"""transformers as reference (4.57.6 or 5.24.0, whichever runs this), patched where it differs from the code that ships with
the real checkpoints; and random checkpoints made with it.

Patches, each a difference that changes numbers:
- DeepSeek-V2 forgets YaRN's mscale_all_dim in the softmax scale (4.57);
- DeepSeek-V2 ignores norm_topk_prob (weights are normalised, and then not multiplied by routed_scaling_factor);
- DeepSeek-V3 masks the groups not chosen with 0 instead of -inf (4.57);
- DeepSeek-V2 cannot rotate float32 keys whose latent rank is odd;
- DeepSeek-V2 and V3 ignore moe_layer_freq, and neither runs without shared experts;
- DeepSeek-V2 refuses a hidden size that its heads do not divide, though nothing needs it (5.x);
- Instella-MoE has no class: it is DeepSeek-V3 with a gate on the attention output.
"""
import functools
import json
import warnings
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, __version__, logging
from transformers.models.deepseek_v2 import modeling_deepseek_v2 as v2
from transformers.models.deepseek_v3 import modeling_deepseek_v3 as v3

FIVE = int(__version__.split(".")[0]) >= 5  # experts are fused in memory, configurations are checked by their types
V2MoE = v2.DeepseekV2Moe if FIVE else v2.DeepseekV2MoE
V2Router = v2.DeepseekV2TopkRouter if FIVE else v2.DeepseekV2MoEGate

logging.set_verbosity_error()
logging.disable_progress_bar()
warnings.filterwarnings("ignore", "Initializing zero-element tensors")  # models without shared experts


def after(cls, method):
    """Decorator: runs the function with (self, result, *arguments) after the method and returns what it returns."""
    def patch(function):
        original = getattr(cls, method)

        @functools.wraps(original)
        def patched(self, *args, **kwargs):
            return function(self, original(self, *args, **kwargs), *args, **kwargs)
        setattr(cls, method, patched)
        return function
    return patch


@after(V2Router, "__init__")
def _remember_normalisation(self, _, config):
    self.norm_topk_prob = config.norm_topk_prob


@after(V2Router, "forward")
def _normalised_weights(self, routing, hidden_states):
    """4.57 returns (indices, weights), 5.x (logits, weights, indices)."""
    first, weights, *last = routing
    return first, weights / weights.sum(-1, keepdim=True) if self.norm_topk_prob else weights, *last


if FIVE:
    v2.DeepseekV2Config.__class_validators__ = [
        check for check in v2.DeepseekV2Config.__class_validators__ if check.__name__ != "validate_architecture"]
else:
    @after(v2.DeepseekV2Attention, "__init__")
    def _softmax_scale(self, _, config, layer_idx=None):
        scaling = config.rope_scaling or {}
        if scaling.get("mscale_all_dim"):
            self.scaling *= v3.yarn_get_mscale(scaling["factor"], scaling["mscale_all_dim"]) ** 2

    @torch.no_grad()
    def _topk_indices(self, scores):
        choice = scores.view(-1, self.n_group, self.n_routed_experts // self.n_group)
        choice = choice + self.e_score_correction_bias.view(self.n_group, -1)
        kept = choice.topk(2, dim=-1)[0].sum(-1).topk(self.topk_group, dim=-1)[1]
        mask = torch.full(choice.shape[:2], float("-inf")).scatter(1, kept, 0.0)
        return (choice + mask.unsqueeze(-1)).flatten(1).topk(self.top_k, dim=-1, sorted=False)[1]

    v3.DeepseekV3TopkRouter.get_topk_indices = _topk_indices


rotate = v2.apply_rotary_emb
v2.apply_rotary_emb = lambda q, k, angles: rotate(q.contiguous(), k.contiguous(), angles)


class Nothing(nn.Module):
    def forward(self, x):
        return torch.zeros_like(x)


for moe in (V2MoE, v3.DeepseekV3MoE):
    @after(moe, "__init__")
    def _no_shared_experts(self, _, config):
        if not config.n_shared_experts:
            self.shared_experts = Nothing()

for layer, mlp in ((v2.DeepseekV2DecoderLayer, v2.DeepseekV2MLP), (v3.DeepseekV3DecoderLayer, v3.DeepseekV3MLP)):
    @after(layer, "__init__")
    def _dense_layers(self, _, config, layer_idx, mlp=mlp):
        if layer_idx % getattr(config, "moe_layer_freq", 1):
            self.mlp = mlp(config)


@after(v3.DeepseekV3Attention, "__init__")
def _gate(self, _, config, layer_idx):
    if config.architectures == ["InstellaMoEForCausalLM"]:
        self.gate_proj = nn.Linear(config.hidden_size, self.num_heads * self.v_head_dim, bias=False)
        self.o_proj.register_forward_pre_hook(lambda _, args: (args[0] * torch.sigmoid(self.gate_value),))
        self.register_forward_pre_hook(lambda _, args, kwargs: setattr(
            self, "gate_value", self.gate_proj(kwargs["hidden_states"])), with_kwargs=True)


def read_config(directory):
    """config.json, without the null for no shared experts that 5.x refuses."""
    given = json.loads((Path(directory) / "config.json").read_text())
    if FIVE and given.get("n_shared_experts", 0) is None:
        given["n_shared_experts"] = 0
    return AutoConfig.for_model(**given)


def load(directory, dtype=torch.float32):
    """The checkpoint in (patched) transformers, always with regular connectivity."""
    plain_experts = {"experts_implementation": "eager"} if FIVE else {}  # the grouped ones want sizes divisible by 4
    return AutoModelForCausalLM.from_pretrained(directory, config=read_config(directory), dtype=dtype,
                                                attn_implementation="eager", **plain_experts).eval()


def stored_state(model):
    """Its tensors under the names that the hub's files have: one matrix an expert."""
    state = {}
    for name, t in model.state_dict().items():
        head, fused, part = name.partition(".experts.")
        if part not in ("gate_up_proj", "down_proj"):
            state[name] = t
            continue
        for expert, matrix in enumerate(t):
            parts = {"down_proj": matrix} if part == "down_proj" else dict(zip(("gate_proj", "up_proj"), matrix.chunk(2)))
            state |= {f"{head}{fused}{expert}.{key}.weight": value for key, value in parts.items()}
    return state


def randomise(state, generator):
    """Weights whose routing is rarely near a tie and whose logits vary; norms, biases and corrections not trivial."""
    for name, t in state.items():
        noise = torch.randn(t.shape, generator=generator)
        if name.endswith("correction_bias"):
            t.copy_(0.1 * noise)
        elif t.ndim == 1:
            t.copy_(1 + 0.2 * noise if "norm" in name else 0.2 * noise)
        elif "embed_tokens" in name:
            t.copy_(noise)
        else:
            gain = 2.0 if "lm_head" in name or name.endswith("mlp.gate.weight") else 1.2
            t.copy_(gain * noise / t.shape[-1] ** 0.5)


def make_checkpoint(directory, config, seed, shards=1):
    """Writes `config` as it is and random weights in float32, as `shards` files with an index if more than one."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        state = stored_state(AutoModelForCausalLM.from_config(read_config(directory)))
        randomise(state, generator)
    tensors = {name: t.contiguous() for name, t in state.items()}
    if config.get("tie_word_embeddings"):
        del tensors["lm_head.weight"]
    hidden, extra = config["hidden_size"], f"model.layers.{config['num_hidden_layers']}."
    if config.get("num_nextn_predict_layers"):  # a part of a multi-token-prediction layer: never run, never lost
        for name, shape in {"enorm": [hidden], "hnorm": [hidden], "eh_proj": [hidden, 2 * hidden]}.items():
            tensors[f"{extra}{name}.weight"] = torch.randn(shape, generator=generator)
    if shards == 1:
        save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
        return
    where = {name: f"model-{i * shards // len(tensors) + 1}-of-{shards}.safetensors" for i, name in enumerate(tensors)}
    for file in sorted(set(where.values())):
        part = {name: t for name, t in tensors.items() if where[name] == file}
        save_file(part, directory / file, metadata={"format": "pt"})
    size = sum(t.nbytes for t in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": where}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")
