"""A small transformer that reads a LEGO text clause by clause: one token per clause and one for the question.

The letters of a clause's variable and of its parent come from one table. Attention goes both ways, as clauses are in no
order and have no positions; one block is applied again and again, once for each link that can be followed.
"""

import math
from dataclasses import dataclass

import torch
from lego_data import LETTERS
from torch import Tensor, nn
from torch.nn import functional as F

_KINDS = 5  # of tokens: four kinds of clause, and the question


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Size of the model."""

    width: int
    heads: int
    # hidden width of the feed-forward over `width`
    expansion: int
    # times that the block is applied
    loops: int


class ClauseTransformer(nn.Module):
    """Logits of the answers 0 and 1; the first weights follow from the seed alone."""

    def __init__(self, config: ModelConfig, seed: int) -> None:
        super().__init__()
        width, self.heads, self.loops = config.width, config.heads, config.loops
        self.letters = nn.Embedding(len(LETTERS) + 1, width)
        self.kinds = nn.Embedding(_KINDS, width)
        self.variable = nn.Linear(width, width, bias=False)
        self.parent = nn.Linear(width, width, bias=False)
        self.attention_norm, self.forward_norm, self.norm = (nn.LayerNorm(width) for _ in range(3))
        self.qkv, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, config.expansion * width), nn.Linear(config.expansion * width, width)
        self.head = nn.Linear(width, 2)
        self._start(seed)

    def forward(self, clauses: Tensor, asked: Tensor) -> Tensor:
        """clauses: int64 (n, 5, 3), asked: int64 (n,) -> logits (n, 2)."""
        variable, kind, parent = clauses.unbind(-1)
        said = self.variable(self.letters(variable)) + self.kinds(kind) + self.parent(self.letters(parent))
        # the question looks for a variable as a clause looks for its parent
        question = self.parent(self.letters(asked)) + self.kinds.weight[-1]
        x = torch.cat([said, question[:, None]], dim=1)  # (n, 6, width)
        for _ in range(self.loops):
            x = self._block(x)
        return self.head(self.norm(x[:, -1]))

    def _block(self, x: Tensor) -> Tensor:
        n, t, width = x.shape
        # (n, t, 3 width) -> three of (n, heads, t, width / heads)
        q, k, v = self.qkv(self.attention_norm(x)).view(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v)
        x = x + self.mix(attended.transpose(1, 2).reshape(n, t, width))
        return x + self.down(F.gelu(self.up(self.forward_norm(x))))

    @torch.no_grad()
    def _start(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for name, weight in self.named_parameters():
            if name in ("letters.weight", "kinds.weight"):
                weight.normal_(0.0, 1.0, generator=generator)
            elif "norm" not in name:
                fan_in = weight.shape[1] if weight.dim() == 2 else self.get_parameter(_matrix_of(name)).shape[1]
                weight.uniform_(-1.0 / math.sqrt(fan_in), 1.0 / math.sqrt(fan_in), generator=generator)


def _matrix_of(bias: str) -> str:
    return bias.removesuffix("bias") + "weight"
