"""The validation split: stratified, disjoint, the same again, and blind to the test split."""

import numpy as np
import pytest

from pointcmt.errors import StoreError
from pointcmt.training.config.sections import Data
from pointcmt.training.runs.splits import split_train, stratified


def test_every_class_gives_its_share():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(6), (1, 2, 3, 10, 95, 1000)))
    for share in (0.01, 0.1, 0.5, 0.99):
        held = stratified(labels, share, seed=3)
        for label, count in enumerate((1, 2, 3, 10, 95, 1000)):
            expected = min(max(1, round(share * count)), count - 1)
            assert np.sum(held[labels == label]) == expected


def test_the_same_seed_gives_the_same_split_and_another_one_another():
    labels = np.repeat(np.arange(4), 50)
    assert np.array_equal(stratified(labels, 0.2, 1), stratified(labels, 0.2, 1))
    assert not np.array_equal(stratified(labels, 0.2, 1), stratified(labels, 0.2, 2))


def test_train_and_validation_are_all_of_train_and_nothing_of_test(store):
    split = split_train(store, Data(validation=0.2, split_seed=0))
    both = np.concatenate([split.train, split.validation])
    assert np.array_equal(np.sort(both), np.flatnonzero(store.splits == 0))
    assert np.bincount(store.labels[split.validation]).tolist() == [3, 3, 3]
    assert split.notes == ()


def test_a_share_of_the_labels_says_what_else_selects(store):
    """The validation split is of all labels, and best is selected with more than were asked for."""
    split = split_train(store, Data(validation=0.2, fraction=0.1))
    assert (len(split.train), len(split.validation)) == (3, 9)
    said = (
        "10% of the labels: 3 of 33 shapes; selecting the best epoch uses 9 more, the last epoch "
    )
    said += "none"
    assert split.notes == (said,)


def test_the_test_split_does_not_matter(make_store, store):
    others = make_store(test=(0, 1, 3))
    ids = [
        [s.shapes[i].id for i in split_train(s, Data(validation=0.2, split_seed=0)).validation]
        for s in (store, others)
    ]
    assert ids[0] == ids[1]


def test_a_store_with_its_own_val_split_is_taken_at_its_word(make_store):
    store = make_store(val=(2, 0, 1))
    split = split_train(store, Data(validation=0.2, split_seed=0))
    assert np.array_equal(split.train, np.flatnonzero(store.splits == 0))
    assert np.array_equal(split.validation, np.flatnonzero(store.splits == 2))
    assert split.notes == ("validating on the store's val split",)


def test_shapes_that_cannot_teach_are_left_out_and_said(make_store):
    store = make_store(train=(4, 1, 5), failed=("ball-train-0", "ball-train-2"), unlabeled=3)
    split = split_train(store, Data(validation=0.2, split_seed=0))
    assert len(split.train) + len(split.validation) == 2 + 1 + 5
    assert split.notes == (
        "2 of 13 train shapes are not rendered",
        "3 train shapes have no class and are left out",
        "classes with a single train shape have no validation shapes: plate",
    )


def test_a_class_that_nobody_has_is_no_obstacle(make_store):
    store = make_store(train=(4, 0, 4), test=(2, 0, 2))
    assert len(split_train(store, Data(validation=0.2, split_seed=0)).validation) == 2


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        ({"train": (0, 0, 0)}, "no rendered shape in its train split"),
        ({"train": (4, 0, 0), "test": (2, 0, 0)}, "at least two classes"),
        ({"train": (1, 1, 1)}, "none is left for validation"),
        ({"train": (0, 0, 0), "test": (0, 0, 0), "unlabeled": 2}, "has a class"),
    ],
)
def test_what_cannot_be_learned_is_said(make_store, plan, says):
    with pytest.raises(StoreError, match=says) as caught:
        split_train(make_store(**plan), Data(validation=0.2, split_seed=0))
    assert caught.value.fix
