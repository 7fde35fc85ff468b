# SPDX-License-Identifier: MIT
# Written by farskip beside the weights of a converted model.
"""FarSkip-Collective models (arXiv 2511.11505) for transformers 4.57 and 5, with `trust_remote_code=True`.

The parts of a layer are transformers' own. What differs is which sum each of them reads. With a_k, s_k, r_k the outputs of
layer k's attention, shared experts (or dense MLP) and routed experts, and x the sum of everything before layer k:

    stream m = x without the last m layers' r
    farskip    attention reads stream n, gate and experts read stream n - 1 without a_k     (n = farskip_lag, 1 as published)
    attention  attention reads stream n, gate and experts read stream n - 1 with a_k
    moe        attention reads x, gate and experts read x without a_k

Layers outside farskip_start_idx .. farskip_end_idx (both inclusive) read x, and x + a_k. Sums are made in this order:
x' = (x + a) + (r + s), and without r: (stream + a) + s. Where the models' own code and transformers 4.57 differ, this follows
the models' own code: see FarskipRouter, and DeepSeek-V2's softmax scale, which is DeepSeek-V3's.
"""
import torch
import transformers
from torch import nn
from torch.nn import functional as F
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.deepseek_v3 import modeling_deepseek_v3 as v3
from transformers.models.deepseek_v3.configuration_deepseek_v3 import DeepseekV3Config
from transformers.models.qwen3_moe import modeling_qwen3_moe as qwen3
from transformers.models.qwen3_moe.configuration_qwen3_moe import Qwen3MoeConfig

try:  # transformers 5: the experts of a layer are two tensors, put together from the files' and taken apart again
    from transformers import initialization as init
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping, register_checkpoint_conversion_mapping
except ImportError:
    from torch.nn import init
    register_checkpoint_conversion_mapping = None

TRANSFORMERS_5 = int(transformers.__version__.split(".")[0]) >= 5


class FarskipConfig:
    """What the configurations share: keys as either version of transformers writes them."""

    # Between two layers there may be several tensors, and version 4 gathers an MLP's one output: layers are not cut among ranks.
    base_model_tp_plan = base_model_ep_plan = base_model_pp_plan = None
    farskip = False
    farskip_start_idx, farskip_end_idx, farskip_lag = 0, None, 1
    attn_only_farskip = mlp_only_farskip = False
    # Routers as DeepSeek-V3's, unless the configuration says otherwise.
    scoring_func, topk_method, gated_attention = "sigmoid", "noaux_tc", False

    if TRANSFORMERS_5:
        def __post_init__(self, **keys):
            keys.pop("model_type", None)  # AMD's form says another one than the class
            super().__post_init__(**keys)
    else:
        def __init__(self, **keys):
            keys.pop("model_type", None)
            rope = dict(keys.pop("rope_parameters", None) or keys.get("rope_scaling") or {})
            keys["rope_theta"] = rope.pop("rope_theta", keys.get("rope_theta") or 10000.0)
            kind = rope.get("rope_type") or rope.get("type") or "default"
            keys["rope_scaling"] = None if kind == "default" else rope | {"rope_type": kind}
            if "num_local_experts" in keys:
                experts = "num_experts" if isinstance(self, Qwen3MoeConfig) else "n_routed_experts"
                keys.setdefault(experts, keys.pop("num_local_experts"))
            super().__init__(**keys)

    def reads(self, k):
        """(stream that attention reads, stream that the MLP reads, whether that is without attention) of layer k."""
        last = self.num_hidden_layers - 1 if self.farskip_end_idx is None else self.farskip_end_idx
        if not self.farskip or not (self.farskip_start_idx or 0) <= k <= last or (self.attn_only_farskip and self.mlp_only_farskip):
            return 0, 0, False
        lag = 1 if self.farskip_lag is None else self.farskip_lag
        if self.mlp_only_farskip:
            if lag != 1:
                raise ValueError(f"farskip_lag: found {lag} with mlp_only_farskip, expected 1")
            return 0, 0, True
        if lag < 1:
            raise ValueError(f"farskip_lag: found {lag}, expected at least 1")
        return lag, lag - 1, not self.attn_only_farskip


class FarskipDeepseekV3Config(FarskipConfig, DeepseekV3Config):
    model_type = "farskip_deepseek_v3"

    def is_moe(self, k):
        frequency = getattr(self, "moe_layer_freq", None) or 1
        if isinstance(frequency, (list, tuple)):
            return bool(frequency[k])
        return k >= self.first_k_dense_replace and k % frequency == 0


class FarskipDeepseekV2Config(FarskipDeepseekV3Config):
    model_type = "farskip_deepseek_v2"


class FarskipInstellaMoEConfig(FarskipDeepseekV3Config):
    model_type = "farskip_instella_moe"
    gated_attention = True


class FarskipQwen3MoeConfig(FarskipConfig, Qwen3MoeConfig):
    model_type = "farskip_qwen3_moe"

    def is_moe(self, k):
        return k not in (self.mlp_only_layers or []) and (k + 1) % self.decoder_sparse_step == 0


def highest(scores, count):
    """The highest scores' indices; of equal ones the lowest index first, as torch.topk does not promise."""
    return scores.sort(dim=-1, descending=True, stable=True).indices[..., :count]


class FarskipRouter(nn.Module):
    """[tokens, hidden] -> logits [tokens, experts], weights and indices [tokens, k] of the chosen experts.

    DeepSeek's in float32; V2's weights are normalised or scaled, V3's both; V3's bias only chooses, and its groups not chosen
    are out. Qwen3's logits and weights are in the model's dtype."""

    def __init__(self, config):
        super().__init__()
        self.config, self.count = config, config.num_experts_per_tok
        self.qwen = isinstance(config, Qwen3MoeConfig)
        experts = config.num_experts if self.qwen else config.n_routed_experts
        self.weight = nn.Parameter(torch.empty(experts, config.hidden_size))
        self.biased = not self.qwen and config.topk_method == "noaux_tc"
        if self.biased:
            bias = torch.zeros(experts, dtype=torch.float32)
            if TRANSFORMERS_5:
                self.register_buffer("e_score_correction_bias", bias)
            else:  # which never loads the buffers of layers that are offloaded to the disk
                self.e_score_correction_bias = nn.Parameter(bias, requires_grad=False)

    def forward(self, hidden):
        config = self.config
        if self.qwen:
            logits = F.linear(hidden, self.weight)
            scores = logits.softmax(-1, dtype=torch.float32)
            indices = highest(scores, self.count)
        else:
            with torch.autocast(hidden.device.type, enabled=False):
                logits = F.linear(hidden.float(), self.weight.float())
            scores = logits.sigmoid() if config.scoring_func == "sigmoid" else logits.softmax(-1)
            indices = highest(self.choices(scores.detach()), self.count)
        weights = scores.gather(-1, indices)
        if config.norm_topk_prob:
            weights = weights / (weights.sum(-1, keepdim=True) + (0 if self.qwen else 1e-20))
        if self.biased or not (self.qwen or config.norm_topk_prob):
            weights = weights * config.routed_scaling_factor
        return logits, weights.to(hidden.dtype) if self.qwen else weights, indices

    def choices(self, scores):
        """What experts are chosen by: outside the best groups -inf (V3) or 0 (V2)."""
        config = self.config
        if config.topk_method == "greedy":
            return scores
        groups = (scores + self.e_score_correction_bias if self.biased else scores).unflatten(-1, (config.n_group, -1))
        best = groups.topk(2, dim=-1).values.sum(-1) if self.biased else groups.amax(-1)
        outside = torch.ones_like(best, dtype=torch.bool).scatter(-1, highest(best, config.topk_group), False)
        return groups.masked_fill(outside.unsqueeze(-1), float("-inf") if self.biased else 0.0).flatten(-2)


class SingleExperts(nn.ModuleList):
    """Experts one by one, as the files have them; outputs add up in their order and in the weights' dtype."""

    def forward(self, hidden, indices, weights):
        out = torch.zeros_like(hidden, dtype=weights.dtype)
        for expert in indices.unique().tolist():
            row, slot = (indices == expert).nonzero(as_tuple=True)
            out.index_add_(0, row, (self[expert](hidden[row]) * weights[row, slot, None]).to(out.dtype))
        return out.to(hidden.dtype)


class FarskipMoE(nn.Module):
    """[batch, length, hidden] -> (routed experts' output, shared experts' output or None)."""

    def __init__(self, config, mlp, experts):
        super().__init__()
        self.gate = FarskipRouter(config)
        self.experts = experts(config) if experts else SingleExperts(
            mlp(config, intermediate_size=config.moe_intermediate_size) for _ in range(self.gate.weight.shape[0]))
        shared = getattr(config, "n_shared_experts", 0)
        self.shared_experts = mlp(config, intermediate_size=shared * config.moe_intermediate_size) if shared else None

    def forward(self, hidden):
        flat = hidden.flatten(0, -2)
        _, weights, indices = self.gate(flat)
        routed = self.experts(flat, indices, weights).view_as(hidden)
        return routed, self.shared_experts(hidden) if self.shared_experts is not None else None


class GatedAttention(v3.DeepseekV3Attention):
    """Instella-MoE's: the output times sigmoid(gate_proj(input)) before o_proj."""

    def __init__(self, config, layer_idx):
        super().__init__(config, layer_idx)
        self.gate_proj = nn.Linear(config.hidden_size, config.num_attention_heads * config.v_head_dim, bias=False)

    def forward(self, hidden_states, *args, **kwargs):
        gate, project = torch.sigmoid(self.gate_proj(hidden_states)), self.o_proj
        # What is in __dict__ hides the module of that name from the inherited forward.
        self.__dict__["o_proj"] = lambda output: project(output * gate)
        try:
            return super().forward(hidden_states, *args, **kwargs)
        finally:
            del self.__dict__["o_proj"]


class FarskipLayer(GradientCheckpointingLayer):
    """Takes and gives the streams 0, 1, .. that are still to be read: a tensor, or a tuple of them.

    As arguments they are tensors, because that is what gradient checkpointing follows."""

    def __init__(self, config, k, parts, given):
        super().__init__()
        self.self_attn = (GatedAttention if getattr(config, "gated_attention", False) else parts.attention)(config, k)
        self.mlp = FarskipMoE(config, parts.mlp, parts.experts) if config.is_moe(k) else parts.mlp(config)
        self.input_layernorm = parts.norm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = parts.norm(config.hidden_size, eps=config.rms_norm_eps)
        self.attention_reads, self.mlp_reads, self.parallel = config.reads(k)
        self.given = given  # streams beside x that later layers read

    def __call__(self, hidden_states, *args, **kwargs):
        streams = hidden_states if isinstance(hidden_states, tuple) else (hidden_states,)
        return super().__call__(*streams, *args, **kwargs)

    def forward(self, *streams, **kwargs):
        def stream(m):
            return streams[min(m, len(streams) - 1)]  # before the first layer they are all the same

        attention = self.self_attn(hidden_states=self.input_layernorm(stream(self.attention_reads)), **kwargs)[0]
        read = stream(self.mlp_reads) if self.parallel else stream(self.mlp_reads) + attention
        output = self.mlp(self.post_attention_layernorm(read))
        routed, near = output if isinstance(output, tuple) else (None, output)

        def without_routed(m):
            settled = stream(m) + attention
            return settled if near is None else settled + near

        later = [without_routed(m) for m in range(self.given)]
        if routed is None:
            x = later[0] if later else without_routed(0)
        else:
            x = (streams[0] + attention) + (routed if near is None else routed + near)
        return (x, *later) if later else x


class Parts:
    """Those that a family's layers are made of; transformers 5 has fused experts, with @use_experts_implementation."""

    def __init__(self, module, family):
        self.attention, self.mlp = getattr(module, f"{family}Attention"), getattr(module, f"{family}MLP")
        self.norm, self.rotary = getattr(module, f"{family}RMSNorm"), getattr(module, f"{family}RotaryEmbedding")
        fused = getattr(module, f"{family}Experts", None) or getattr(module, f"{family}NaiveMoe", None)
        self.experts = fused if register_checkpoint_conversion_mapping else None


DEEPSEEK, QWEN3 = Parts(v3, "DeepseekV3"), Parts(qwen3, "Qwen3Moe")
Recorder = type(qwen3.Qwen3MoePreTrainedModel._can_record_outputs["router_logits"])


class FarskipWeights:
    """Of models and of models with a head, each before the class of transformers that is `regular`."""

    _no_split_modules = ["FarskipLayer"]

    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, FarskipRouter):
            init.normal_(module.weight, mean=0.0, std=self.config.initializer_range)

    def _grouped_mm_can_dispatch(self):
        """Asked by transformers 5, which then computes expert by expert: grouped products want rows of whole 16 bytes."""
        if self.config.hidden_size % 8 or self.config.moe_intermediate_size % 8:
            raise ValueError("grouped_mm: found hidden sizes that are no multiples of 8")
        return super()._grouped_mm_can_dispatch()


class FarskipModel(FarskipWeights):
    def __init__(self, config):
        super(self.regular, self).__init__(config)  # not the regular class's own, which makes regular layers
        depth = config.num_hidden_layers
        given = [0] * depth
        for k in range(depth - 2, -1, -1):
            given[k] = max(*config.reads(k + 1)[:2], given[k + 1] - 1)
        self.padding_idx, self.vocab_size = config.pad_token_id, config.vocab_size
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, self.padding_idx)
        self.layers = nn.ModuleList(FarskipLayer(config, k, self.parts, given[k]) for k in range(depth))
        self.norm = self.parts.norm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = self.parts.rotary(config=config)
        self.gradient_checkpointing = False
        self.post_init()


class FarskipCausalLM(FarskipWeights):
    def __init__(self, config):
        super(self.regular, self).__init__(config)
        self.model = self.base(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        # Layers for multi-token prediction follow the model's in the files and are not run.
        self._keys_to_ignore_on_load_unexpected = [rf"model\.layers\.{config.num_hidden_layers}\..*"]
        if isinstance(config, Qwen3MoeConfig):
            self.router_aux_loss_coef = config.router_aux_loss_coef
            self.num_experts, self.num_experts_per_tok = config.num_experts, config.num_experts_per_tok
        self.post_init()


class DeepseekWeights:
    # Routers stay in float32. Version 4 goes by the names of modules, version 5 by parts of names and has its own list.
    _keep_in_fp32_modules_strict = v3.DeepseekV3PreTrainedModel._keep_in_fp32_modules_strict or ["gate"]
    _can_record_outputs = {"hidden_states": FarskipLayer, "attentions": v3.DeepseekV3Attention} | (
        {"router_logits": Recorder(FarskipRouter, index=0)} if TRANSFORMERS_5 else {})


class FarskipDeepseekV3Model(DeepseekWeights, FarskipModel, v3.DeepseekV3Model):
    config_class, regular, parts = FarskipDeepseekV3Config, v3.DeepseekV3Model, DEEPSEEK


class FarskipDeepseekV3ForCausalLM(DeepseekWeights, FarskipCausalLM, v3.DeepseekV3ForCausalLM):
    config_class, regular, base = FarskipDeepseekV3Config, v3.DeepseekV3ForCausalLM, FarskipDeepseekV3Model


class FarskipDeepseekV2Model(FarskipDeepseekV3Model):
    config_class = FarskipDeepseekV2Config


class FarskipDeepseekV2ForCausalLM(FarskipDeepseekV3ForCausalLM):
    config_class, base = FarskipDeepseekV2Config, FarskipDeepseekV2Model


class FarskipInstellaMoEModel(FarskipDeepseekV3Model):
    config_class = FarskipInstellaMoEConfig


class FarskipInstellaMoEForCausalLM(FarskipDeepseekV3ForCausalLM):
    config_class, base = FarskipInstellaMoEConfig, FarskipInstellaMoEModel


class Qwen3Weights:
    _can_record_outputs = {"hidden_states": FarskipLayer, "attentions": qwen3.Qwen3MoeAttention,
                           "router_logits": Recorder(FarskipRouter, index=0)}


class FarskipQwen3MoeModel(Qwen3Weights, FarskipModel, qwen3.Qwen3MoeModel):
    config_class, regular, parts = FarskipQwen3MoeConfig, qwen3.Qwen3MoeModel, QWEN3


class FarskipQwen3MoeForCausalLM(Qwen3Weights, FarskipCausalLM, qwen3.Qwen3MoeForCausalLM):
    config_class, regular, base = FarskipQwen3MoeConfig, qwen3.Qwen3MoeForCausalLM, FarskipQwen3MoeModel


if register_checkpoint_conversion_mapping:
    for family in (FarskipDeepseekV2Config, FarskipDeepseekV3Config, FarskipInstellaMoEConfig, FarskipQwen3MoeConfig):
        register_checkpoint_conversion_mapping(
            family.model_type, get_checkpoint_conversion_mapping("qwen3_moe"), overwrite=True)
