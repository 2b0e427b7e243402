"""What the benchmark of gateways works out of what it counts."""

import pytest

from tests.bench.gateways.__main__ import parse, sizes_of
from tests.bench.gateways.runner import Watched, in_storm, measurement
from tests.bench.gateways.scenarios import Fleet, Pace, Sizes, all_scenarios
from tests.bench.gateways.subjects import SUBJECTS, Place, Subject
from tests.bench.tables import Entry, Measurement, Row, Scenario, Table, summarise

RESULT = {
    "round_trips": 1_000,
    "seconds": 2.0,
    "rate": 500.0,
    "p50_us": 3.0,
    "p99_us": 9.0,
    "missing": 2,
    "refused": 0,
    "load_cpu_s": 0.004,
    "busy_cpu_s": 1.0,
    "watched_cpu_s": [0.1, 0.02, 0.03, 0.006],
}


def test_the_gateway_s_processor_time_is_that_of_all_its_processes() -> None:
    measured = measurement(RESULT, Watched(broker=1, gateway=[2, 3], worker=[4]))
    assert measured.cpu_us == pytest.approx(50)
    assert measured.broker_cpu_us == pytest.approx(100)
    assert measured.worker_cpu_us == pytest.approx(6)
    assert measured.load_cpu_us == pytest.approx(4)
    assert measured.missing == 2


def test_what_other_programs_used_is_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    measured = measurement(RESULT, Watched(broker=1, gateway=[2, 3], worker=[4]))
    assert measured.others_share == pytest.approx((1.0 - 0.16) / 4)


def test_a_storm_s_processor_time_is_that_of_a_station_that_comes_back() -> None:
    result = (
        RESULT
        | {"calm_p50_us": 1.0, "calm_p99_us": 2.0, "last_served_s": 4.0, "served": 90}
        | {"failed": 7, "lost": 1}
    )
    fleet = Fleet("storm", 150, moving=100)
    measured = in_storm(
        measurement(result, Watched(broker=1, gateway=[2, 3], worker=[4])), result, fleet
    )
    assert measured.cpu_us == pytest.approx(500)
    assert (measured.calm_p50_us, measured.p50_us) == (1.0, 3.0)
    assert (measured.missing, measured.lost, measured.refused_handshakes) == (2 + 10, 1, 7)


@pytest.mark.parametrize("subjects", [SUBJECTS, SUBJECTS[:1], SUBJECTS[1:]])
def test_each_gateway_is_measured_with_each_number_of_stations(
    subjects: tuple[Subject, ...],
) -> None:
    scenarios = {
        scenario.name: scenario for scenario in all_scenarios(subjects, Sizes(up=(1, 200)), Pace())
    }
    up = scenarios["up"].entries
    assert [(entry.subject, entry.job.stations) for entry in up] == [
        (subject.name, count) for count in (1, 200) for subject in subjects
    ]
    assert {entry.subject for entry in scenarios["down"].entries} == {
        subject.name for subject in subjects if subject.has_csms
    }


def test_a_gateway_is_compared_with_another_of_as_many_stations() -> None:
    for scenario in all_scenarios(SUBJECTS, Sizes(), Pace()):
        entries = {entry.label: entry for entry in scenario.entries}
        for entry in scenario.entries:
            if entry.against is not None:
                other = entries[entry.against]
                assert other.job == entry.job
                assert other.subject != entry.subject


@pytest.mark.parametrize("most", [2, 500, 19_800, 1_000_000])
def test_no_scenario_has_more_stations_than_there_can_be(most: int) -> None:
    for scenario in all_scenarios(SUBJECTS, Sizes().within(most), Pace()):
        for entry in scenario.entries:
            assert 0 <= entry.job.moving < entry.job.stations <= most


def test_the_number_of_stations_is_for_every_scenario() -> None:
    sizes = sizes_of(parse(["--stations", "7", "--stations", "70", "--moving", "30"]), 19_800)
    assert (sizes.up, sizes.down, sizes.idle, sizes.tls) == ([7, 70], [7, 70], 70, 70)
    assert sizes.moving == 30


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_a_gateway_listens_where_it_is_told(subject: Subject) -> None:
    command = " ".join(subject.command(Place(port=9017, url="amqp://b/v", stations=20_000)))
    assert "9017" in command
    assert "amqp://b/v" in command
    assert "--tls" not in command


def test_the_ratio_is_the_median_of_the_rounds() -> None:
    one, base = Entry("x", "x", Fleet("up", 1), "base"), Entry("base", "base", Fleet("up", 1))
    rows = [
        Row(one, rounds=[Measurement(station_kib=kib) for kib in (2.0, 9.0, 8.0)]),
        Row(base, rounds=[Measurement(station_kib=kib) for kib in (1.0, 3.0, 2.0)]),
    ]
    summarise(Table(Scenario("idle", "", (one, base)), rows))
    assert rows[0].median is not None
    assert rows[0].median.station_kib == 8.0
    assert rows[0].ratio is not None
    assert rows[0].ratio.station_kib == 3.0
    assert rows[1].ratio is None


def test_of_what_went_wrong_the_worst_round_is_told() -> None:
    entry = Entry("x", "x", Fleet("up", 1))
    rounds = [Measurement(refused=0, lost=2), Measurement(refused=5, lost=0)]
    row = Row(entry, rounds=rounds)
    summarise(Table(Scenario("up", "", (entry,)), [row]))
    assert row.median is not None
    assert (row.median.refused, row.median.lost, row.median.missing) == (5, 2, 0)
