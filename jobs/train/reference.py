"""The reference model of excess losses: an earlier run's trained model, or trigrams of the pool's own documents."""

import numpy as np
import torch
from torch.nn import functional as F

from prereq.graph.errors import ConfigError
from prereq.jobs.train.arm_texts import ArmTexts
from prereq.jobs.train.checkpoint import read_weights
from prereq.jobs.train.config import TrainConfig
from prereq.jobs.train.model import ByteTransformer
from prereq.jobs.train.ngram import Trigrams
from prereq.jobs.train.windows import IGNORE, Windows
from prereq.selector.storage import Folder


class Reference:
    """Losses of a model that does not move.

    Args:
        config: `reference_run` names a run whose trained model it is; without one, trigrams are counted.
        texts: The run's arms, whose last documents in the run's order are counted.

    Raises:
        ConfigError: The reference run holds no checkpoint of a model.
    """

    def __init__(self, config: TrainConfig, texts: ArmTexts) -> None:
        self._model: ByteTransformer | None = None
        self._trigrams: Trigrams | None = None
        if config.reference_run is None:
            self._trigrams = Trigrams([text for part in texts.last().values() for text in part])
            return
        found = read_weights(Folder(config.reference_run))
        if found is None:
            raise ConfigError(
                f"train.reference_run: {config.reference_run} holds no train/checkpoint.pt; train it first "
                "(prereq run with mixer.name: proportional is DoReMi's way), or leave the key out"
            )
        shape, weights = found
        self._model = ByteTransformer(shape).to(config.device)
        self._model.load_state_dict(weights)

    def losses(self, windows: Windows) -> np.ndarray:
        """Nats of every target `(windows, seq_len)`, 0 where it is padding."""
        if self._trigrams is not None:
            return self._trigrams.losses(windows)
        model = self._model
        if model is None:
            raise AssertionError("a reference has a model or trigrams")
        inputs, targets = (torch.from_numpy(side).to(next(model.parameters()).device) for side in windows)
        with torch.inference_mode():
            logits = model(inputs).flatten(0, 1)
            each = F.cross_entropy(logits, targets.flatten(), reduction="none", ignore_index=IGNORE)
        return each.view(targets.shape).double().cpu().numpy()
