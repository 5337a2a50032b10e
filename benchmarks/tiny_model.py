"""A transformer small enough for a hundred short runs on one core, which reads one made text and answers its last word.

Only the last position of the last layer is computed: the loss is on the answer, nothing else of the text is predicted.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyConfig:
    """Size and first weights of a model."""

    # words
    vocabulary: int
    # words of the longest text, without the answer
    length: int
    width: int
    layers: int
    heads: int
    # standard deviation of the first embeddings of words and positions
    embedding_sd: float


class TinyBlock(nn.Module):
    """Causal attention and a feed-forward, each behind a norm and added to the stream."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.forward_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.mix = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, *, last: bool) -> Tensor:
        """x: (n, t, width) -> (n, t, width), or (n, 1, width) of the last position alone."""
        n, t, width = x.shape
        read = self.attention_norm(x)
        stream, asking = (x[:, -1:], read[:, -1:]) if last else (x, read)
        q = self.query(asking).view(n, -1, self.heads, width // self.heads).transpose(1, 2)
        # (n, t, 2 width) -> two of (n, heads, t, width / heads)
        k, v = self.key_value(read).view(n, t, 2, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=not last)
        x = stream + self.mix(attended.transpose(1, 2).reshape(n, -1, width))
        return x + self.down(F.gelu(self.up(self.forward_norm(x))))


class TinyTransformer(nn.Module):
    """Logits of the word after the text; the first weights depend on the seed alone."""

    def __init__(self, config: TinyConfig, seed: int) -> None:
        super().__init__()
        self.words = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Parameter(torch.empty(config.length, config.width))
        self.blocks = nn.ModuleList(TinyBlock(config.width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        self._start(config, seed)

    def forward(self, texts: Tensor) -> Tensor:
        """texts: int64 (n, t), t <= length -> logits (n, vocabulary)."""
        x = self.words(texts) + self.positions[: texts.shape[1]]
        for index, block in enumerate(self.blocks):
            x = block(x, last=index == len(self.blocks) - 1)
        return self.head(self.norm(x)).squeeze(1)

    @torch.no_grad()
    def _start(self, config: TinyConfig, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for name, weight in self.named_parameters():
            if name in ("words.weight", "positions"):
                weight.normal_(0.0, config.embedding_sd, generator=generator)
            elif weight.dim() == 2:
                scale = 0.02 if name == "head.weight" else 0.7 / math.sqrt(weight.shape[1])
                if name.endswith(("mix.weight", "down.weight")):
                    scale /= math.sqrt(2 * config.layers)  # what adds to the stream, as GPT-2 starts it
                weight.normal_(0.0, scale, generator=generator)
            elif name.endswith("bias"):
                weight.zero_()  # norms' weights stay at one
