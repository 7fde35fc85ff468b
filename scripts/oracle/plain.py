"""A plain PyTorch reading of the models farskip runs, in every connectivity: the oracle of its tests.

Written from the equations and independent of transformers; whole sequences, no cache, no fusion. Families: DeepSeek-V2,
DeepSeek-V3 / Moonlight, Instella-MoE, Qwen3-MoE, read from a Hugging Face directory (config.json + safetensors).

For layer k, x is the residual with everything settled and p ("partial") is x without the routed experts' output of layer
k-1. Regular attention reads x and the MLP reads x + a; under FarSkip attention reads p and the MLP reads x.
"""
import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

READS = {"regular": (False, False), "farskip": (True, True), "attention": (True, False), "moe": (False, True)}


@dataclass
class Output:
    """Logits [batch, length, vocabulary]; x_0..x_L [batch, length, hidden]; for each MoE layer the chosen experts
    [batch, length, k], best first, and the gap [batch, length] that separates the choice from the next best one."""
    logits: torch.Tensor = None
    residuals: list = field(default_factory=list)
    routing: dict = field(default_factory=dict)
    margins: dict = field(default_factory=dict)


def layer_range(text, count):
    """`A:B` (half-open), `last:N`, `last:P%`, `first:N` or `first:P%` as a range of layers."""
    head, tail = text.split(":")
    if head not in ("first", "last"):
        return range(count)[slice(int(head or 0), int(tail or count))]
    n = round(count * float(tail[:-1]) / 100) if tail.endswith("%") else int(tail)
    return range(n) if head == "first" else range(count - n, count)


def stamped_connectivity(config):
    """(name, range of layers) that the config's own FarSkip keys ask for."""
    count = config["num_hidden_layers"]
    attention, moe = config.get("attn_only_farskip", False), config.get("mlp_only_farskip", False)
    if not config.get("farskip", False) or (attention and moe):
        return "regular", range(0)
    last = min(config.get("farskip_end_idx", count - 1), count - 1)
    name = "attention" if attention else "moe" if moe else "farskip"
    return name, range(config.get("farskip_start_idx", 0), last + 1)


def wide(x):
    """float32, or float64 where x already is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def best(scores, count):
    """Indices of the highest scores, best first; of equal ones the lowest index first."""
    return scores.sort(dim=-1, descending=True, stable=True).indices[..., :count]


def gap(scores, count):
    """Distance between the last chosen and the first rejected score; infinite where all are chosen."""
    if count >= scores.shape[-1]:
        return torch.full(scores.shape[:-1], math.inf, dtype=scores.dtype)
    ranked = scores.sort(dim=-1, descending=True).values
    return ranked[..., count - 1] - ranked[..., count]


def rms_norm(x, weight, eps):
    y = wide(x)
    return (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype) * weight


def mscale(factor, m):
    return 0.1 * m * math.log(factor) + 1 if factor > 1 else 1.0


class Rope:
    """Rotary angles, plain or YaRN; rotates adjacent pairs (interleaved) or halves."""

    def __init__(self, config, dim, interleaved):
        scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
        theta = scaling.get("rope_theta", config.get("rope_theta", 10000.0))
        self.interleaved, self.factor = interleaved, 1.0
        self.frequencies = 1.0 / theta ** (torch.arange(0, dim, 2).float() / dim)
        kind = scaling.get("rope_type", scaling.get("type", "default"))
        if kind == "yarn":
            self._stretch(scaling, dim, theta, config["max_position_embeddings"])
        elif kind != "default":
            raise ValueError(f"rope type {kind}: only default and yarn are known")

    def _stretch(self, scaling, dim, theta, max_positions):
        factor = scaling["factor"]
        original = scaling.get("original_max_position_embeddings") or max_positions
        turns_at = lambda turns: dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))
        low = max(math.floor(turns_at(scaling.get("beta_fast") or 32)), 0)
        high = min(math.ceil(turns_at(scaling.get("beta_slow") or 1)), dim - 1)
        ramp = ((torch.arange(dim // 2).float() - low) / max(high - low, 0.001)).clamp(0, 1)
        self.frequencies = self.frequencies * (1 - ramp) + self.frequencies / factor * ramp
        m, m_all = scaling.get("mscale"), scaling.get("mscale_all_dim")
        self.factor = mscale(factor, m) / mscale(factor, m_all) if m and m_all else mscale(factor, 1.0)
        self.factor = scaling.get("attention_factor") or self.factor

    def __call__(self, x):
        """x: [batch, length, heads, dim]."""
        angles = torch.arange(x.shape[1]).float()[:, None, None] * self.frequencies
        cos, sin = angles.cos() * self.factor, angles.sin() * self.factor
        y = wide(x)
        a, b = (y[..., 0::2], y[..., 1::2]) if self.interleaved else y.chunk(2, dim=-1)
        rotated = (a * cos - b * sin, b * cos + a * sin)
        return (torch.stack(rotated, -1).flatten(-2) if self.interleaved else torch.cat(rotated, -1)).to(x.dtype)


def attend(q, k, v, scale):
    """Causal attention on [batch, length, heads, dim]; fewer key heads than query heads are shared by groups."""
    groups = q.shape[2] // k.shape[2]
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    future = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).triu(1)
    scores = wide(q @ k.transpose(-1, -2) * scale).masked_fill(future, -math.inf)
    return (scores.softmax(-1).to(v.dtype) @ v).transpose(1, 2).flatten(-2)


class Model:
    """A checkpoint's parameters under their Hugging Face names, and the function they compute."""

    def __init__(self, directory, dtype=torch.float32):
        self.config = c = json.loads((Path(directory) / "config.json").read_text())
        index = Path(directory) / "model.safetensors.index.json"
        files = sorted(set(json.loads(index.read_text())["weight_map"].values())) if index.exists() else ["model.safetensors"]
        tensors = {name: t for file in files for name, t in load_file(Path(directory) / file).items()}
        first_unused = f"model.layers.{c['num_hidden_layers']}."  # multi-token-prediction layers follow the model's
        self.w = {name: t.to(torch.float32 if name.endswith("correction_bias") else dtype)
                  for name, t in tensors.items() if not name.startswith(first_unused)}
        self.dtype = dtype
        self.family = {"DeepseekV2ForCausalLM": "v2", "DeepseekV3ForCausalLM": "v3", "InstellaMoEForCausalLM": "instella",
                       "Qwen3MoeForCausalLM": "qwen"}[c["architectures"][0]]
        self.mla = self.family != "qwen"
        if c.get("use_sliding_window"):
            raise ValueError("use_sliding_window: not known to the oracle")
        if self.mla:
            self.rope = Rope(c, c["qk_rope_head_dim"], c.get("rope_interleave", True))
            self.scale = (c["qk_nope_head_dim"] + c["qk_rope_head_dim"]) ** -0.5
            scaling = c.get("rope_parameters") or c.get("rope_scaling") or {}
            if scaling.get("mscale_all_dim"):
                self.scale *= mscale(scaling["factor"], scaling["mscale_all_dim"]) ** 2
        else:
            self.head_dim = c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
            self.rope, self.scale = Rope(c, self.head_dim, False), self.head_dim ** -0.5

    def parameters(self):
        """Names to tensors of what is trained: all but the routers' correction biases."""
        return {name: t for name, t in self.w.items() if not name.endswith("correction_bias")}

    def linear(self, x, name):
        return F.linear(x, self.w[name + ".weight"], self.w.get(name + ".bias"))

    def norm(self, x, name, eps=None):
        return rms_norm(x, self.w[name + ".weight"], eps or self.config["rms_norm_eps"])

    def is_moe(self, k):
        c = self.config
        if self.family == "qwen":
            return k not in (c.get("mlp_only_layers") or []) and (k + 1) % c.get("decoder_sparse_step", 1) == 0
        return k >= c.get("first_k_dense_replace", 0) and k % c.get("moe_layer_freq", 1) == 0

    def attention(self, h, name):
        y = self.mla_attention(h, name) if self.mla else self.grouped_attention(h, name)
        if self.family == "instella" and self.config.get("gated_attention", True):
            y = y * torch.sigmoid(self.linear(h, name + ".gate_proj"))
        return self.linear(y, name + ".o_proj")

    def mla_attention(self, h, name):
        """Multi-head latent attention; the latent norms' eps is 1e-6 whatever the config says."""
        c, heads = self.config, self.config["num_attention_heads"]
        nope, rotary = c["qk_nope_head_dim"], c["qk_rope_head_dim"]
        if c.get("q_lora_rank"):
            latent = self.norm(self.linear(h, name + ".q_a_proj"), name + ".q_a_layernorm", 1e-6)
            q = self.linear(latent, name + ".q_b_proj")
        else:
            q = self.linear(h, name + ".q_proj")
        q_nope, q_rotary = q.unflatten(-1, (heads, nope + rotary)).split([nope, rotary], -1)
        latent, k_rotary = self.linear(h, name + ".kv_a_proj_with_mqa").split([c["kv_lora_rank"], rotary], -1)
        kv = self.linear(self.norm(latent, name + ".kv_a_layernorm", 1e-6), name + ".kv_b_proj")
        k_nope, v = kv.unflatten(-1, (heads, -1)).split([nope, c["v_head_dim"]], -1)
        k_rotary = self.rope(k_rotary.unsqueeze(2)).expand(-1, -1, heads, -1)
        return attend(torch.cat([q_nope, self.rope(q_rotary)], -1), torch.cat([k_nope, k_rotary], -1), v, self.scale)

    def grouped_attention(self, h, name):
        q, k, v = (self.linear(h, f"{name}.{x}_proj").unflatten(-1, (-1, self.head_dim)) for x in "qkv")
        q, k = self.rope(self.norm(q, name + ".q_norm")), self.rope(self.norm(k, name + ".k_norm"))
        return attend(q, k, v, self.scale)

    def mlp(self, h, name):
        return self.linear(F.silu(self.linear(h, name + ".gate_proj")) * self.linear(h, name + ".up_proj"),
                           name + ".down_proj")

    def route(self, h, name):
        """Chosen experts [.., k], their weights [.., k] and the margin [..] of the choice."""
        c, k, gate = self.config, self.config["num_experts_per_tok"], self.w[name + ".weight"]
        if self.family == "qwen":
            scores = choice = wide(F.linear(h, gate)).softmax(-1)
        elif self.family == "v2":
            scores = choice = F.linear(wide(h), wide(gate)).softmax(-1)
        else:
            scores = F.linear(wide(h), wide(gate)).sigmoid()
            choice = scores + self.w[name + ".e_score_correction_bias"]
        choice, margin = choice.detach(), torch.full(h.shape[:-1], math.inf, dtype=scores.dtype)
        groups, kept = c.get("n_group") or 1, c.get("topk_group") or 1
        if self.family in ("v3", "instella") or c.get("topk_method") == "group_limited_greedy":
            grouped = choice.unflatten(-1, (groups, -1))
            group_scores = grouped.amax(-1) if self.family == "v2" else grouped.topk(2, -1).values.sum(-1)
            dropped = torch.ones_like(group_scores, dtype=torch.bool).scatter(-1, best(group_scores, kept), False)
            choice = grouped.masked_fill(dropped.unsqueeze(-1), 0.0 if self.family == "v2" else -math.inf).flatten(-2)
            margin = gap(group_scores, kept)
        indices, margin = best(choice, k), torch.minimum(margin, gap(choice, k))
        weights = scores.gather(-1, indices)
        if c.get("norm_topk_prob"):
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
        if self.family in ("v3", "instella") or (self.family == "v2" and not c.get("norm_topk_prob")):
            weights = weights * c.get("routed_scaling_factor", 1.0)
        return indices, weights.to(h.dtype) if self.family == "qwen" else weights, margin

    def routed(self, h, indices, weights, name):
        """Weighted sum of the chosen experts, in the weights' dtype and in the order of the experts."""
        out = torch.zeros(h.shape, dtype=weights.dtype).flatten(0, 1)
        rows, indices, weights = h.flatten(0, 1), indices.flatten(0, 1), weights.flatten(0, 1)
        for expert in indices.unique().tolist():
            row, slot = (indices == expert).nonzero(as_tuple=True)
            y = self.mlp(rows[row], f"{name}.experts.{expert}").to(out.dtype)
            out = out.index_add(0, row, y * weights[row, slot, None])
        return out.view(h.shape).to(h.dtype)

    def forward(self, tokens, connectivity=None, layers=None, forced=None):
        """tokens [batch, length]. Without a connectivity, what the config is stamped with; `layers` as the command line
        writes it (default: all). `forced`: residuals x_0..x_L that replace the own ones after they were recorded, so
        that each layer is compared by itself."""
        count = self.config["num_hidden_layers"]
        stamped, stamped_range = stamped_connectivity(self.config)
        name = connectivity or stamped
        converted = layer_range(layers, count) if layers else range(count) if connectivity else stamped_range
        out, embedding = Output(), self.w["model.embed_tokens.weight"]
        settle = lambda x, k: (out.residuals.append(x), forced[k].to(x.dtype) if forced else x)[1]
        x = settle(F.embedding(tokens, embedding), 0)
        p = x
        for k in range(count):
            x, p = self.layer(k, x, p, READS[name] if k in converted else READS["regular"], out)
            full = settle(x, k + 1)
            x, p = full, p if self.is_moe(k) else full
        head = embedding if self.config.get("tie_word_embeddings") else self.w["lm_head.weight"]
        out.logits = F.linear(self.norm(x, "model.norm"), head)
        return out

    def layer(self, k, x, p, reads, out):
        name = f"model.layers.{k}"
        attention_skips, mlp_skips = reads
        a = self.attention(self.norm(p if attention_skips else x, name + ".input_layernorm"), name + ".self_attn")
        middle = x + a
        h = self.norm(x if mlp_skips else middle, name + ".post_attention_layernorm")
        if not self.is_moe(k):
            x = middle + self.mlp(h, name + ".mlp")
            return x, x
        indices, weights, margin = self.route(h, name + ".mlp.gate")
        out.routing[k], out.margins[k] = indices, margin
        r = self.routed(h, indices, weights, name + ".mlp")
        if not self.config.get("n_shared_experts"):
            return middle + r, middle
        s = self.mlp(h, name + ".mlp.shared_experts")
        return middle + (r + s), middle + s

    @torch.no_grad()
    def generate(self, prompt, count, **how):
        """Greedy continuation of one row of tokens, every step over the whole sequence: (new tokens, the smallest
        distance that separates any arg-max or expert choice on the way from another one)."""
        row, safe = list(prompt), math.inf
        for _ in range(count):
            out = self.forward(torch.tensor([row]), **how)
            ranked = out.logits[0, -1].sort(descending=True)
            safe = min([safe, float(ranked.values[0] - ranked.values[1])] + [float(m.min()) for m in out.margins.values()])
            row.append(int(ranked.indices[0]))
        return row[len(prompt):], safe


def loss_and_gradients(model, tokens, loss, connectivity="farskip", layers=None, l2_weight=0.1):
    """(loss, name -> gradient) of one distillation step; the teacher is the same model, regular. `loss`: kl (teacher ||
    student, mean over all positions), sft (cross entropy over positions with a next token) or kl+l2 (and the mean over
    positions of the squared distances of x_1..x_L, summed over layers and features). Unused parameters get zeros."""
    parameters = model.parameters()
    for t in parameters.values():
        t.requires_grad_(True)
    student = model.forward(tokens, connectivity, layers)
    log_s = wide(student.logits).log_softmax(-1)
    if loss == "sft":
        value = F.nll_loss(log_s[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    else:
        with torch.no_grad():
            teacher = model.forward(tokens, "regular")
        log_t = wide(teacher.logits).log_softmax(-1)
        value = (log_t.exp() * (log_t - log_s)).sum(-1).mean()
        if loss == "kl+l2":
            pairs = zip(student.residuals[1:], teacher.residuals[1:])
            value = value + l2_weight * sum((s - t).pow(2).sum(-1).mean() for s, t in pairs)
    gradients = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
    found = {name: torch.zeros_like(t) if g is None else g for (name, t), g in zip(parameters.items(), gradients)}
    for t in parameters.values():
        t.requires_grad_(False)
    return value.detach(), found
