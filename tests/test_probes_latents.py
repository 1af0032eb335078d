"""Logit lens and latents: equal to what the task itself says, and known limits."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from probed import data, loaded, probe, probe_and_looks
from torch import Tensor, nn

from dlrun import registry
from dlrun.loading import Loaded

WORDS = ("task=language_model", "dataset=grammar", "dataset.n=96", "dataset.context=8")
TEXT = (*WORDS, "model=transformer", "model.width=16", "model.heads=2")


def lens(*words: str, **changed: Any) -> tuple[Loaded, dict[str, float]]:
    run = loaded(*TEXT, *words)
    return run, probe("logit_lens", run, rows=None, **changed)


@pytest.mark.parametrize(
    "words", [("model.depth=3",), ("model.depth=2", "model.tied=true"), ("model.depth=2", "model.norm_first=false"), ("model.depth=0",)]
)
def test_the_last_layer_is_the_network_itself(words: tuple[str, ...]) -> None:
    run, found = lens(*words)
    layers = int(found["layers"])
    assert found[f"cross_entropy_{layers}"] == pytest.approx(run.evaluate("test")["loss"], rel=1e-5)
    assert f"entropy_{layers + 1}" not in found and layers == int(words[0][-1])
    assert all(0 <= found[f"entropy_{layer}"] <= math.log(run.spec.vocab or 1) + 1e-9 for layer in range(layers + 1))


def test_blocks_that_add_nothing_change_nothing() -> None:
    run = loaded(*TEXT, "model.depth=3")
    with torch.no_grad():
        for block in run.model.blocks:  # type: ignore[union-attr]
            for parameter in block.parameters():
                parameter.zero_()
    found = probe("logit_lens", run)
    assert found["cross_entropy_0"] == found["cross_entropy_3"] and found["entropy_1"] == found["entropy_2"]
    with torch.no_grad():
        for parameter in run.model.readout.parameters():  # type: ignore[union-attr]
            parameter.zero_()
    even = probe("logit_lens", run)
    assert even["entropy_2"] == pytest.approx(math.log(run.spec.vocab or 1)) == even["cross_entropy_2"]


class Own(nn.Module):
    """A network of one's own: other names, and a block that returns a tuple; `twist` does something behind the last block."""

    def __init__(self, vocab: int, twist: bool) -> None:
        super().__init__()
        self.embed, self.stack, self.final = nn.Embedding(vocab, 8), nn.ModuleList([Doubling(), Doubling()]), nn.LayerNorm(8)
        self.to_vocab, self.twist = nn.Linear(8, vocab), twist

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        for block in self.stack:
            h, _ = block(h)
        out: Tensor = self.to_vocab(self.final(h) + (1.0 if self.twist else 0.0))
        return out


class Doubling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(8, 8)

    def forward(self, h: Tensor) -> tuple[Tensor, None]:
        return h + self.mix(h).tanh(), None


def own(twist: bool, vocab: int) -> Own:
    return Own(vocab, twist)


def test_a_network_of_ones_own_says_where_its_parts_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, twist in (("own", False), ("twisted", True)):
        monkeypatch.setitem(registry.PLUGINS["model"], name, partial(own, twist))
    run = loaded(*WORDS, "model=own")
    with pytest.raises(ValueError, match="has no blocks under a usual name: say blocks=PATH; it has embed, stack, final, to_vocab"):
        probe("logit_lens", run)
    where = {"blocks": "stack", "norm": "final", "readout": "to_vocab"}
    found = probe("logit_lens", run, rows=None, **where)
    assert found["layers"] == 2 and found["cross_entropy_2"] == pytest.approx(run.evaluate("test")["loss"], rel=1e-5)
    with pytest.raises(ValueError, match="does something else between its last block and its logits"):
        probe("logit_lens", loaded(*WORDS, "model=twisted"), **where)
    with pytest.raises(ValueError, match="has no readout 'x'"):
        probe("logit_lens", run, blocks="stack", readout="x")


def test_a_network_that_gives_no_token_is_refused() -> None:
    with pytest.raises(ValueError, match="has no blocks under a usual name"):
        probe("logit_lens", loaded("dataset=digits", "model=mlp"))


# -- latents ------------------------------------------------------------------------------------------------------------------------------


def test_active_units_and_kl_are_those_of_the_task() -> None:
    run = loaded("dataset=digits", "task=vae", "task.latent=6")
    own = run.evaluate("test")
    found, looks = probe_and_looks("latent_traversal", run, rows=None)
    assert found["latents"] == 6 and found["active_units"] == own["active_units"] and found["kl"] == pytest.approx(own["kl"], rel=1e-5)
    assert looks["latent_traversal"].data["images"].shape == (6, 1, 8, 9 * 9) and len(looks["latent_traversal"].data["captions"]) == 6
    with torch.no_grad():
        for parameter in run.networks["encoder"].parameters():
            parameter.zero_()
    collapsed = probe("latent_traversal", run)
    assert collapsed["active_units"] == 0 == collapsed["largest_variance"] and collapsed["kl"] == pytest.approx(0, abs=1e-12)


def test_a_unit_counts_above_the_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latents that are the inputs, whose variances are known."""
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    x = (x - x.mean(0)) / x.std(0, correction=0) * torch.tensor([1.0, 0.2, 0.09])
    monkeypatch.setitem(registry.PLUGINS["model"], "same", lambda in_shape, out_shape: nn.Identity())
    named = data(monkeypatch, "known", (x, x))
    run = loaded(named, "task=autoencoder", "task.latent=3", "model.encoder=same", "model.decoder=same")
    found = probe("latent_traversal", run)
    assert found["active_units"] == 2 and found["active_share"] == pytest.approx(2 / 3) and "kl" not in found
    assert found["largest_variance"] == pytest.approx(1, rel=1e-5) and found["smallest_variance"] == pytest.approx(0.0081, rel=1e-4)
    assert probe("latent_traversal", run, threshold=0.008)["active_units"] == 3


def test_what_is_drawn_is_what_the_decoder_makes() -> None:
    run = loaded("dataset=digits", "task=vae", "task.latent=2")
    _, looks = probe_and_looks("latent_traversal", run, points=3, span=2.0, row=5)
    strip = looks["latent_traversal"].data["images"][0, 0]
    mu = run.networks["encoder"](next(run.prepared("test", 2000))["x"]).unbind(1)[0].detach()
    unit = int(mu.var(0).argmax())
    z = mu[5].repeat(3, 1)
    z[:, unit] = torch.tensor([-2.0, 0.0, 2.0])
    made = run.networks["decoder"](z)[:, 0].detach()
    assert all(torch.allclose(strip[:, 9 * i : 9 * i + 8], made[i], atol=1e-5) for i in range(3))
    with pytest.raises(ValueError, match="row=900"):
        probe("latent_traversal", run, row=900)


def test_a_run_without_latents_is_refused() -> None:
    with pytest.raises(ValueError, match="needs latents"):
        probe("latent_traversal", loaded("dataset=digits", "model=linear"))
    with pytest.raises(ValueError, match="needs a task with one loss"):
        probe("latent_traversal", loaded("task=gan", "dataset=ring"))
