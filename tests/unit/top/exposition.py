"""What workers say of themselves, recorded: as docs/metrics.md has it."""

from collections.abc import Mapping

BOUNDS = (0.001, 0.01, 0.1, 1.0, 10.0)


def histogram(name: str, labels: str, counts: Mapping[float, int]) -> str:
    """`counts`: how many were observed up to each bound and above the one before."""
    lines = []
    total = 0
    for bound in (*BOUNDS, float("inf")):
        total += counts.get(bound, 0)
        le = "+Inf" if bound == float("inf") else repr(bound)
        lines.append(f'{name}_bucket{{{labels},le="{le}"}} {float(total)}')
    lines.append(f"{name}_count{{{labels}}} {float(total)}")
    lines.append(f"{name}_sum{{{labels}}} {total * 0.01}")
    return "\n".join(lines)


def a_worker(
    *,
    vendor: str = "acme",
    accepted: int = 0,
    failed: int = 0,
    fast: int = 0,
    slow: int = 0,
    running: int = 0,
    waiting: int = 0,
    dead: int = 0,
    paused: int = 0,
    limit: int = 10,
    threads: int = 0,
    for_thread: int = 0,
    blocked: int = 0,
    late: int = 0,
    state: str = "consuming",
    started: float = 1_000.0,
    process: str = "",
) -> str:
    """`fast`, `slow`: requests that took up to 10 ms, and up to 10 s. `threads`: all are busy.

    `late`: times that the event loop was, by up to a second.
    """
    mark = f',process="{process}"' if process else ""
    one = f'vendor="{vendor}"{mark}'
    alone = f"{{{mark[1:]}}}" if mark else ""
    counts = {0.01: fast, 10.0: slow}
    return "\n".join(
        [
            "# HELP dtbridge_requests_total Deliveries of requests that were settled.",
            "# TYPE dtbridge_requests_total counter",
            f'dtbridge_requests_total{{{one},message="GetTariff",outcome="accepted"}} {accepted}',
            f'dtbridge_requests_total{{{one},message="GetTariff",outcome="failed"}} {failed}',
            f'dtbridge_requests_total{{{one},message="GetTariff",outcome="retried"}} 5',
            "# TYPE dtbridge_handler_seconds histogram",
            histogram("dtbridge_handler_seconds", f'{one},message="GetTariff"', counts),
            "# TYPE dtbridge_answer_seconds histogram",
            histogram("dtbridge_answer_seconds", one, counts),
            "# TYPE dtbridge_deliveries_total counter",
            f"dtbridge_deliveries_total{{{one}}} {accepted + failed}",
            "# TYPE dtbridge_requests_in_hand gauge",
            f"dtbridge_requests_in_hand{{{one}}} {running + waiting}",
            "# TYPE dtbridge_requests_running gauge",
            f"dtbridge_requests_running{{{one}}} {running}",
            "# TYPE dtbridge_requests_waiting gauge",
            f"dtbridge_requests_waiting{{{one}}} {waiting}",
            "# TYPE dtbridge_concurrency_limit gauge",
            "# TYPE dtbridge_vendor_paused gauge",
            f"dtbridge_vendor_paused{{{one}}} {paused}",
            f"dtbridge_concurrency_limit{{{one}}} {limit}",
            "# TYPE dtbridge_threads_limit gauge",
            f"dtbridge_threads_limit{{{one}}} {threads}",
            "# TYPE dtbridge_threads_busy gauge",
            f"dtbridge_threads_busy{{{one}}} {threads}",
            "# TYPE dtbridge_thread_requests_waiting gauge",
            f"dtbridge_thread_requests_waiting{{{one}}} {for_thread}",
            "# TYPE dtbridge_loop_blocked_total counter",
            f'dtbridge_loop_blocked_total{{{one},message="GetTariff"}} {blocked}',
            "# TYPE dtbridge_event_loop_lag_seconds histogram",
            histogram("dtbridge_event_loop_lag_seconds", mark[1:] or 'x="y"', {1.0: late}),
            "# TYPE dtbridge_dead_letters_total counter",
            f'dtbridge_dead_letters_total{{{one},reason="failed"}} {dead}',
            "# TYPE dtbridge_session_state gauge",
            f'dtbridge_session_state{{state="connecting"{mark}}} 0',
            f'dtbridge_session_state{{state="{state}"{mark}}} 1',
            "# TYPE dtbridge_build_info gauge",
            f'dtbridge_build_info{{version="0.1.0",python="3.12.1",compiled="yes"{mark}}} 1',
            "# TYPE dtbridge_start_time_seconds gauge",
            f"dtbridge_start_time_seconds{alone} {started}",
            "# TYPE process_cpu_seconds_total counter",
            f"process_cpu_seconds_total{alone} {accepted / 100}",
            "# TYPE process_resident_memory_bytes gauge",
            f"process_resident_memory_bytes{alone} {50 * 2**20}",
            "# TYPE go_goroutines gauge",
            "go_goroutines 17",
            "",
        ]
    )
