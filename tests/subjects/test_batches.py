from __future__ import annotations

import pytest
import torch

from e4profile.errors import SettingError
from e4profile.subjects.batches import BatchedInputs
from e4profile.subjects.inputs import Example, as_example, parse_input


def of(*texts: str) -> BatchedInputs:
    return BatchedInputs(tuple(parse_input(text) for text in texts))


def shapes(example: Example) -> list[tuple[int, ...]]:
    return [tuple(tensor.shape) for tensor in example.tensors]


def test_the_leading_size_of_every_tensor_is_the_batch() -> None:
    inputs = of("2x3x8x8", "mask=2x1:bool", "n:=4", "t=scalar")
    assert inputs.batch_size == 2
    assert shapes(inputs.at(None, torch.float32)) == [(2, 3, 8, 8), (2, 1), ()]
    at = inputs.at(5, torch.float64)
    assert shapes(at) == [(5, 3, 8, 8), (5, 1), ()]
    assert [tensor.dtype for tensor in at.tensors] == [torch.float64, torch.bool, torch.float64]
    assert at.keywords["n"] == 4


def test_the_dtype_of_a_specification_is_kept() -> None:
    assert of("2x3:float64").at(2, torch.bfloat16).tensors[0].dtype == torch.float64


def test_nothing_is_allocated_on_the_meta_device() -> None:
    (tensor,) = of("1x3x1024x1024").at(10**9, torch.float32, "meta").tensors
    assert (tensor.is_meta, tuple(tensor.shape)) == (True, (10**9, 3, 1024, 1024))


def test_the_shape_of_one_image_is_that_of_any_batch() -> None:
    inputs = BatchedInputs.of((3, 4, 4))
    assert inputs.batch_size == 1
    assert shapes(inputs.at(None, torch.float32)) == [(1, 3, 4, 4)]
    assert shapes(inputs.at(7, torch.float32)) == [(7, 3, 4, 4)]


def test_given_tensors_are_cut_or_repeated() -> None:
    images = torch.arange(6.0).reshape(3, 2)
    inputs = BatchedInputs.of(Example((images,), {"ids": torch.tensor([7, 8, 9])}))
    at = inputs.at(5, torch.float64)
    assert at.positional[0].tolist() == [[0, 1], [2, 3], [4, 5], [0, 1], [2, 3]]
    assert at.keywords["ids"].tolist() == [7, 8, 9, 7, 8]
    assert shapes(inputs.at(2, torch.float32)) == [(2, 2), (2,)]
    assert shapes(inputs.at(9, torch.float32, "meta")) == [(9, 2), (9,)]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (of("2x3", "5"), "different leading sizes"),
        (of("n:=4"), r"--batch-size \(=2\) has no tensor to act on: the inputs are n:=4"),
        (of("t=scalar"), "no tensor to act on"),
        (BatchedInputs.of(as_example([(1, 3), (2, 3)], torch.float32)), r"of \(1, 3\), \(2, 3\)"),
        (BatchedInputs.of(Example(("word",))), "of no tensors"),
    ],
)
def test_inputs_without_a_common_leading_size_have_no_batch(inputs: BatchedInputs, message: str) -> None:
    assert inputs.batch_size is None
    inputs.at(None, torch.float32)
    with pytest.raises(SettingError, match=message):
        inputs.at(2, torch.float32)


@pytest.mark.parametrize("batch", [0, -1])
@pytest.mark.parametrize("inputs", [of("2x3"), BatchedInputs.of(torch.zeros(2, 3))])
def test_a_batch_is_positive(inputs: BatchedInputs, batch: int) -> None:
    with pytest.raises(SettingError, match="batch_size"):
        inputs.at(batch, torch.float32)


def test_every_call_has_containers_of_its_own() -> None:
    example = Example(({"x": torch.zeros(1)}, 3), {"more": [torch.ones(1)]})
    first, second = example.fresh(), example.fresh()
    assert first.positional[0].pop("x") is second.positional[0]["x"]
    first.keywords["more"].clear()
    assert len(second.keywords["more"]) == 1
    flat = Example((torch.zeros(1),), {"n": 3})
    assert flat.fresh() is flat


def test_what_can_be_read_only_once_is_refused() -> None:
    for inputs in ([(1, 3), iter([1])], {"images": (x for x in [torch.zeros(1)])}):
        with pytest.raises(SettingError, match="which can be read only once, but the model runs several times"):
            as_example(inputs, torch.float32)
