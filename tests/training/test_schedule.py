from labelassemble.loss import LossOptions
from labelassemble.training.schedule import Best, TermWeights, term_weights


def test_warm_up_is_a_switch_by_default() -> None:
    options = LossOptions(warmup_epochs=2, pseudo_weight=1.0, consistency_weight=0.5)
    assert [term_weights(epoch, options) for epoch in range(4)] == [
        TermWeights(0.0, 0.0),
        TermWeights(0.0, 0.0),
        TermWeights(1.0, 0.5),
        TermWeights(1.0, 0.5),
    ]


def test_warm_up_can_be_a_ramp() -> None:
    options = LossOptions(warmup_epochs=1, ramp_epochs=4)
    assert [term_weights(epoch, options).pseudo for epoch in range(6)] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]


def test_the_best_epoch_has_the_highest_auc_and_of_equal_ones_the_lowest_loss() -> None:
    best = Best()
    for epoch, (auc, loss) in enumerate([(0.7, 1.0), (0.9, 2.0), (0.9, 1.5), (0.9, 1.7), (0.8, 0.1)]):
        best = best.update(epoch, auc, loss, counting=True)
    assert (best.epoch, best.auc, best.loss) == (2, 0.9, 1.5)


def test_without_an_auc_the_loss_decides() -> None:
    best = Best()
    for epoch, loss in enumerate([3.0, 1.0, 2.0]):
        best = best.update(epoch, None, loss, counting=True)
    assert best.epoch == 1


def test_epochs_without_a_lower_loss_count_after_warm_up_only() -> None:
    best = Best().update(0, 0.5, 1.0, counting=False)
    best = best.update(1, 0.6, 1.1, counting=False)
    assert best.epochs_without_fall == 0
    best = best.update(2, 0.7, 1.2, counting=True).update(3, 0.8, 1.3, counting=True)
    assert best.epochs_without_fall == 2
    assert best.update(4, 0.1, 0.9, counting=True).epochs_without_fall == 0
