from pathlib import Path

import pytest

from recsys.compare.plan import Plan, folders_of, plan_comparison
from recsys.errors import UsageError
from recsys.models import MODELS
from recsys.models.baselines import BASELINES
from recsys.settings import Settings, SplitConfig, TunedConfig
from recsys.split.provided import Provided

SETTINGS = Settings(seed=3, split=SplitConfig(holdout_share=0.2, validation_share=0.15, last_k=4))


def plan(models: str | None = None, splits: str = "random", n_seeds: int = 1) -> Plan:
    return plan_comparison(models, splits, n_seeds, "chosen", SETTINGS)


def test_networks_keep_their_order_and_repeats_are_dropped() -> None:
    assert plan("softmax, bias,softmax").models == ("softmax", "bias")
    assert plan("all").models == (*MODELS, *BASELINES)
    assert plan().models == (*SETTINGS.candidates, "bias")


def test_names_of_baselines_and_networks_are_distinct() -> None:
    assert not {*MODELS} & {*BASELINES}


def test_seeds_are_consecutive_from_the_first() -> None:
    assert plan(n_seeds=3).seeds == (3, 4, 5)


def test_splits_can_have_shares() -> None:
    base = SETTINGS.split
    assert plan(splits="random,time:0.1, last,last:2").splits == {
        "random": base,
        "time:0.1": base.model_copy(update={"kind": "time", "holdout_share": 0.1}),
        "last": base.model_copy(update={"kind": "last"}),
        "last:2": base.model_copy(update={"kind": "last", "last_k": 2}),
    }
    assert plan(splits="u1,ub").splits == {name: Provided(name, 0.15) for name in ("u1", "ub")}


def test_train_and_holdout_files_replace_splits() -> None:
    train, holdout = Path("a.parquet"), Path("b.parquet")
    found = plan_comparison(None, None, 1, "stated", SETTINGS, (train, holdout))
    assert found.splits == {"files": Provided("files", 0.15, train, holdout)}
    with pytest.raises(UsageError, match="--train and --holdout must be given together"):
        plan_comparison(None, None, 1, "stated", SETTINGS, (train, None))
    with pytest.raises(UsageError, match="--split time cannot be combined with --train and --holdout"):
        plan_comparison(None, "time", 1, "stated", SETTINGS, (train, holdout))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"models": "sofmax"}, r"--models sofmax: there is no such network\. Did you mean softmax\? Next: use all, or"),
        ({"models": ""}, "--models : there is no such network"),
        ({"splits": "randm"}, r"--split randm: there is no such split\. Did you mean random\? Next: use"),
        ({"splits": "time:1.5"}, "--split time:1.5: Input should be less than 1"),
        ({"splits": "last:half"}, "--split last:half: Input should be a valid integer"),
        ({"splits": "u6"}, "--split u6: there is no such split"),
        ({"n_seeds": 0}, "--seeds 0 is invalid. Next: pass a number from 1 to 100"),
    ],
)  # fmt: skip
def test_invalid_options_are_refused(words: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan(**words)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sources", "out", "folders"),
    [
        ([], None, {None: None}),
        ([], "out", {None: "out"}),
        (["a.zip"], "out", {"a.zip": "out"}),
        (["a.zip", "ml-1m"], None, {"a.zip": None, "ml-1m": None}),
        (["/x/a b.zip", "synthetic:9x8x7"], "out", {"/x/a b.zip": "out/a-b", "synthetic:9x8x7": "out/synthetic-9x8x7"}),
    ],
)
def test_each_source_has_a_results_folder(
    sources: list[str], out: str | None, folders: dict[str | None, str | None]
) -> None:
    expected = {source: folder and Path(folder) for source, folder in folders.items()}
    assert folders_of(sources, Path(out) if out else None) == expected


@pytest.mark.parametrize(
    ("model", "config", "message"),
    [
        ("nmf", {}, "--config is for nmf, which is not among --models softmax,triplet"),
        ("triplet", {"margin": 1}, r"invalid config for triplet: .*training: Field required"),
    ],
)
def test_a_config_must_belong_to_a_compared_network(model: str, config: dict[str, object], message: str) -> None:
    settings = SETTINGS.model_copy(update={"config": TunedConfig.model_validate({"model": model, "config": config})})
    with pytest.raises(UsageError, match=message):
        plan_comparison("softmax,triplet", None, 1, "chosen", settings)


@pytest.mark.parametrize("source", ["..", ".", "/"])
def test_results_stay_below_the_folder(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        folders = folders_of([source, "ml-1m"], Path("out"))
    except UsageError:
        return
    assert all(folder and folder.parent == Path("out") for folder in folders.values())


def test_two_sources_do_not_share_a_folder() -> None:
    with pytest.raises(UsageError, match="would write to the same folder in out"):
        folders_of(["x/a.zip", "y/a.zip"], Path("out"))
