"""Constants that experiments on languages claim against, worked out anew from the languages they train on."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import yaml
from architecture_rules import ROOT
from parts import model, options

from dlrun.datasets.grammar import chain, grammar
from dlrun.functional.markov import conditional_entropies, ngram_entropies, window_entropy


def language(experiment: str) -> tuple[Any, dict[str, Any], str]:
    """(the table, the dataset's options, claims and baseline as text) of an experiment on a grammar."""
    said = yaml.safe_load((ROOT / "conf" / "experiment" / f"{experiment}.yaml").read_text())
    data = options("dataset", "grammar", **said["dataset"])
    table = chain(data["order"], data["vocab"], data["branching"], data["seed"])
    return table, data, str([said["claims"], said["baseline"]])


def test_zero_layer_bigram_claims_against_the_entropies_of_its_language() -> None:
    table, data, said = language("zero_layer_bigram")
    unigram, bigram, _ = conditional_entropies(table, 3)
    for nats in (unigram, bigram, window_entropy(table, data["context"])):
        assert f"{nats:.4f}" in said


def test_logit_lens_claims_against_the_entropies_of_its_language() -> None:
    table, data, said = language("logit_lens")
    for nats in (conditional_entropies(table, 2)[1], window_entropy(table, data["context"])):
        assert f"{nats:.4f}" in said


def test_skipped_layers_claims_against_the_entropies_of_its_language() -> None:
    table, data, said = language("skipped_layers")
    for nats in (conditional_entropies(table, 2)[1], window_entropy(table, data["context"])):
        assert f"{nats:.4f}" in said


@pytest.mark.parametrize("experiment", ["zero_layer_text", "char_lm"])
def test_claims_on_a_text_that_differs_from_machine_to_machine_name_no_number_of_it(experiment: str) -> None:
    """All n-grams are measured on the run's own rows; what is written down is a margin or a share, below 1."""
    said = yaml.safe_load((ROOT / "conf" / "experiment" / f"{experiment}.yaml").read_text())
    assert said["measures"]["ngrams"]["probe"] == "ngram_entropy" and "ngrams." in str(said["baseline"]["is"])
    for claim in said["claims"]:
        assert all(float(number) < 1 for number in re.findall(r"(?<![\w.])\d+(?:\.\d+)?", claim["claim"]))


def test_the_bigram_entropy_is_what_the_best_table_of_the_rows_costs() -> None:
    rows = grammar(**options("dataset", "grammar", n=4096)).train["x"].numpy()
    assert ngram_entropies(rows, 2)[1] == pytest.approx(2.4893, abs=0.01)


@torch.no_grad()
def test_without_layers_each_token_is_answered_by_itself_alone_and_tied_tables_are_symmetric_but_for_a_scale() -> None:
    common: dict[str, Any] = {"depth": 0, "positions": "none", "readout_bias": False, "width": 8}
    untied: Any = model("transformer", (5,), (5, 6), 6, **common)
    x = torch.tensor([[0, 1, 2, 3, 4], [5, 1, 0, 3, 4]])
    out = untied(x)
    assert torch.equal(out[0, 1], out[1, 1]) and torch.equal(out[0, 0], out[1, 2]) and not torch.equal(out[0, 0], out[1, 0])
    tied: Any = model("transformer", (6,), (6, 6), 6, **common, tied=True)
    table = tied(torch.arange(6)[None])[0].double()  # row t: logits after token t
    hidden = tied.tokens.weight.double() * tied.scale
    deviation = (hidden.var(1, correction=0) + tied.norm.eps).sqrt()
    centred = hidden - hidden.mean(1, keepdim=True)
    gram = centred @ tied.tokens.weight.double().T
    assert torch.allclose(table * deviation[:, None], gram, atol=1e-5)
    symmetric = table * deviation[:, None] + hidden.mean(1, keepdim=True) * tied.tokens.weight.double().sum(1)
    assert torch.allclose(symmetric, symmetric.T, atol=1e-5)
