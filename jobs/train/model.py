"""A small decoder-only transformer over bytes: RMS norms, rotary positions, squared-ReLU feed-forward, no dropout.

No dropout means that training draws no random numbers after the first weights, so a checkpoint needs no generator.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prereq.jobs.train.config import TrainConfig
from prereq.jobs.train.windows import VOCABULARY


class Block(nn.Module):
    """Causal attention and a feed-forward, each behind a norm and added to the stream."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.forward_norm = nn.RMSNorm(width), nn.RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.mix = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x: (n, t, width) -> (n, t, width); cos, sin: (t, width / heads / 2)."""
        n, t, width = x.shape
        # (n, t, 3 width) -> three of (n, heads, t, width / heads)
        q, k, v = self.qkv(self.attention_norm(x)).view(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=True)
        x = x + self.mix(attended.transpose(1, 2).reshape(n, t, width))
        return x + self.down(F.relu(self.up(self.forward_norm(x))).square())


class ByteTransformer(nn.Module):
    """Logits of the next token for every position.

    Args:
        config: layers, width, heads, seq_len, seed.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, config.width)
        self.blocks = nn.ModuleList(Block(config.width, config.heads) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width)
        self.head = nn.Linear(config.width, VOCABULARY, bias=False)
        half = config.width // config.heads // 2
        frequencies = 10_000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
        angles = torch.outer(torch.arange(config.seq_len, dtype=torch.float64), frequencies)  # (seq_len, half)
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)
        self._start(config.seed)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens: int64 (n, t), t <= seq_len -> logits (n, t, 257)."""
        t = tokens.shape[1]
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, self.cos[:t], self.sin[:t])
        return self.head(self.norm(x))

    @torch.no_grad()
    def _start(self, seed: int) -> None:
        """First weights from a generator of their own; what adds to the stream, and the head, starts at zero."""
        generator = torch.Generator().manual_seed(seed)
        for name, weight in self.named_parameters():
            if weight.dim() < 2:
                continue  # norms start at one
            if name.endswith(("mix.weight", "down.weight", "head.weight")):
                weight.zero_()
            else:
                scale = 0.02 if name.startswith("embedding") else 0.7 / math.sqrt(weight.shape[1])
                weight.normal_(0.0, scale, generator=generator)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions: pair i of position t turned by its angle; x: (n, heads, t, d), cos and sin: (t, d / 2).

    Source:
        Su et al. 2021, "RoFormer", arXiv:2104.09864; halves are paired, not neighbours.
    """
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


def make_optimizer(model: ByteTransformer, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95), fused=True)
