"""Metrics of several processes as those of one.

Each process hands over what its collectors say, as bytes; the supervisor puts them together, with a
label that names the process.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.samples import Exemplar, Sample, Timestamp

PROCESS: Final = "process"
"""The label."""


class _Exemplar(msgspec.Struct, array_like=True):
    labels: dict[str, str]
    value: float
    timestamp: float | None


class _Sample(msgspec.Struct, array_like=True):
    name: str
    labels: dict[str, str]
    value: float
    timestamp: float | None
    exemplar: _Exemplar | None


class _Family(msgspec.Struct, array_like=True):
    name: str
    documentation: str
    kind: str
    unit: str
    samples: list[_Sample]


_decoder: Final = msgspec.msgpack.Decoder(list[_Family])


def encode(registry: CollectorRegistry) -> bytes:
    """All that a registry collects."""
    return msgspec.msgpack.encode([_family(metric) for metric in registry.collect()])


def decode(data: bytes) -> list[Metric]:
    """What :func:`encode` was given. Raises msgspec.DecodeError for anything else."""
    return [_metric(family) for family in _decoder.decode(data)]


def merge(processes: Mapping[str, Iterable[Metric]]) -> list[Metric]:
    """The metrics of several processes by their names, as one list.

    The samples of each have the label :data:`PROCESS`. Where two processes mean different things by
    a name, the first is believed.
    """
    merged: dict[str, Metric] = {}
    for process, metrics in processes.items():
        for metric in metrics:
            one = merged.get(metric.name)
            if one is None:
                one = Metric(metric.name, metric.documentation, metric.type, metric.unit)
                merged[metric.name] = one
            elif one.type != metric.type:
                continue
            one.samples += [
                sample._replace(labels={**sample.labels, PROCESS: process})
                for sample in metric.samples
            ]
    return list(merged.values())


def _family(metric: Metric) -> _Family:
    return _Family(
        metric.name,
        metric.documentation,
        metric.type,
        metric.unit,
        [
            _Sample(
                sample.name,
                sample.labels,
                float(sample.value),
                _seconds(sample.timestamp),
                None if sample.exemplar is None else _exemplar(sample.exemplar),
            )
            for sample in metric.samples
        ],
    )


def _exemplar(exemplar: Exemplar) -> _Exemplar:
    return _Exemplar(exemplar.labels, float(exemplar.value), _seconds(exemplar.timestamp))


def _seconds(timestamp: Timestamp | float | None) -> float | None:
    return None if timestamp is None else float(timestamp)


def _metric(family: _Family) -> Metric:
    metric = Metric(family.name, family.documentation, family.kind, family.unit)
    metric.samples = [
        Sample(
            each.name,
            each.labels,
            each.value,
            each.timestamp,
            None
            if each.exemplar is None
            else Exemplar(each.exemplar.labels, each.exemplar.value, each.exemplar.timestamp),
        )
        for each in family.samples
    ]
    return metric
