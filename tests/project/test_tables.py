import pytest

from tables import per_row


@pytest.fixture
def base() -> int:
    return 10


@per_row("number", [1, 2])
@per_row(("add", "total"), [(0, 10), (5, 15)], ids=["nothing", "five"])
def test_rows_come_beside_fixtures_and_multiply(base: int, number: int, add: int, total: int) -> None:
    assert base + add == total
    assert number in {1, 2}


@per_row("number", [1, 2])
async def test_an_asynchronous_test_has_rows_too(number: int) -> None:
    assert number


def test_a_failure_names_its_row_and_the_other_rows_are_tried() -> None:
    tried: list[int] = []

    @per_row("number", [1, 2, 3])
    def run(number: int) -> None:
        tried.append(number)
        assert number != 2

    with pytest.raises(AssertionError) as failed:
        run()
    assert tried == [1, 2, 3]
    assert failed.value.__notes__ == ["in the row number=2"]


def test_all_failures_are_told_by_the_names_of_their_rows() -> None:
    @per_row("number", [1, 2, 3], ids=["one", "two", "three"])
    def run(number: int) -> None:
        if number > 1:
            pytest.fail("too many")

    with pytest.raises(BaseExceptionGroup, match="2 of 3 rows failed") as failed:
        run()
    assert [one.__notes__ for one in failed.value.exceptions] == [["in the row two"], ["in the row three"]]


async def test_a_failure_of_an_asynchronous_row_is_told() -> None:
    @per_row("number", [1, 2], ids=str)
    async def run(number: int) -> None:
        assert number == 1

    with pytest.raises(AssertionError) as failed:
        await run()
    assert failed.value.__notes__ == ["in the row 2"]


def test_a_table_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="tests nothing"):
        per_row("number", [])


def test_a_value_that_cannot_be_written_is_named_by_its_type() -> None:
    @per_row("number", [10**5000])
    def run(number: int) -> None:
        pytest.fail(f"{number > 0}")

    with pytest.raises(pytest.fail.Exception) as failed:
        run()
    assert failed.value.__notes__ == ["in the row number=int"]
