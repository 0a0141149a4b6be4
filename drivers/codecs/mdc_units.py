"""Units as monitors write them (MDC_DIM codes, UCUM and its everyday spellings), and exact conversion between them."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from drivers.codecs.hl7 import Coded
from wire.vocabulary import METRICS, Metric


class Unit(NamedTuple):
    """One unit: base value = value * factor + shift, within its dimension."""

    dimension: str
    factor: Fraction = Fraction(1)
    shift: Fraction = Fraction(0)


_MMHG_PASCAL = Fraction("133.322387415")  # NIST SP 811
_POUND_KG = Fraction("0.45359237")
_PER_MINUTE = Unit("rate", Fraction(1, 60))
_PER_SECOND = Unit("rate")
_MMHG = Unit("pressure", _MMHG_PASCAL)
_KPA = Unit("pressure", Fraction(1000))
_CELSIUS = Unit("temperature")
_FAHRENHEIT = Unit("temperature", Fraction(5, 9), Fraction(-160, 9))
_MILLIVOLT = Unit("potential", Fraction(1, 1000))
_MICROVOLT = Unit("potential", Fraction(1, 1_000_000))
_PERCENT = Unit("percent")
_DIMENSIONLESS = Unit("none")
_MG_DL = Unit("mass concentration")
_MMOL_L = Unit("substance concentration")

# UCUM codes, and spellings seen in their place that can mean nothing else.
_BY_NAME: dict[str, Unit] = {
    "/min": _PER_MINUTE, "1/min": _PER_MINUTE, "{beats}/min": _PER_MINUTE, "{breaths}/min": _PER_MINUTE,
    "bpm": _PER_MINUTE, "rpm": _PER_MINUTE,
    "/s": _PER_SECOND, "Hz": _PER_SECOND,
    "%": _PERCENT, "1": _DIMENSIONLESS, "{a.u.}": _DIMENSIONLESS,
    "mm[Hg]": _MMHG, "mmHg": _MMHG, "kPa": _KPA, "Pa": Unit("pressure"), "hPa": Unit("pressure", Fraction(100)),
    "cm[H2O]": Unit("pressure", Fraction("98.0665")), "mbar": Unit("pressure", Fraction(100)),
    "Cel": _CELSIUS, "°C": _CELSIUS, "℃": _CELSIUS, "[degF]": _FAHRENHEIT, "degF": _FAHRENHEIT,
    "°F": _FAHRENHEIT, "℉": _FAHRENHEIT,
    "V": Unit("potential"), "mV": _MILLIVOLT, "uV": _MICROVOLT, "µV": _MICROVOLT, "μV": _MICROVOLT,
    "s": Unit("time"), "ms": Unit("time", Fraction(1, 1000)),
    "kg": Unit("mass"), "g": Unit("mass", Fraction(1, 1000)), "[lb_av]": Unit("mass", _POUND_KG),
    "m": Unit("length"), "cm": Unit("length", Fraction(1, 100)), "mm": Unit("length", Fraction(1, 1000)),
    "[in_i]": Unit("length", Fraction("0.0254")),
    "mg/dL": _MG_DL, "mmol/L": _MMOL_L,
    "L/min": Unit("flow"), "mL/min": Unit("flow", Fraction(1, 1000)),
    "kg/m2": Unit("mass per area"), "{score}": Unit("score"),
}  # fmt: skip

# IEEE 11073-10101, partition 4: 262144 + term, as several public headers agree on them.
_BY_MDC: dict[int, tuple[str, Unit]] = {
    262656: ("MDC_DIM_DIMLESS", _DIMENSIONLESS),
    262688: ("MDC_DIM_PERCENT", _PERCENT),
    263424: ("MDC_DIM_X_M", _BY_NAME["m"]),
    263441: ("MDC_DIM_CENTI_M", _BY_NAME["cm"]),
    263442: ("MDC_DIM_MILLI_M", _BY_NAME["mm"]),
    263520: ("MDC_DIM_INCH", _BY_NAME["[in_i]"]),
    263872: ("MDC_DIM_X_G", _BY_NAME["g"]),
    263875: ("MDC_DIM_KILO_G", _BY_NAME["kg"]),
    263904: ("MDC_DIM_LB", _BY_NAME["[lb_av]"]),
    264096: ("MDC_DIM_KG_PER_M_SQ", _BY_NAME["kg/m2"]),
    264274: ("MDC_DIM_MILLI_G_PER_DL", _MG_DL),
    264320: ("MDC_DIM_SEC", _BY_NAME["s"]),
    264338: ("MDC_DIM_MILLI_SEC", _BY_NAME["ms"]),
    264608: ("MDC_DIM_PER_SEC", _PER_SECOND),
    264640: ("MDC_DIM_HZ", _PER_SECOND),
    264672: ("MDC_DIM_PER_MIN", _PER_MINUTE),
    264864: ("MDC_DIM_BEAT_PER_MIN", _PER_MINUTE),
    264896: ("MDC_DIM_PULS_PER_MIN", _PER_MINUTE),
    264928: ("MDC_DIM_RESP_PER_MIN", _PER_MINUTE),
    265216: ("MDC_DIM_X_L_PER_MIN", _BY_NAME["L/min"]),
    265234: ("MDC_DIM_MILLI_L_PER_MIN", _BY_NAME["mL/min"]),
    265984: ("MDC_DIM_X_PASCAL", _BY_NAME["Pa"]),
    265986: ("MDC_DIM_HECTO_PASCAL", _BY_NAME["hPa"]),
    265987: ("MDC_DIM_KILO_PASCAL", _KPA),
    266016: ("MDC_DIM_MMHG", _MMHG),
    266048: ("MDC_DIM_CM_H2O", _BY_NAME["cm[H2O]"]),
    266098: ("MDC_DIM_MILLI_BAR", _BY_NAME["mbar"]),
    266400: ("MDC_DIM_X_VOLT", _BY_NAME["V"]),
    266418: ("MDC_DIM_MILLI_VOLT", _MILLIVOLT),
    266419: ("MDC_DIM_MICRO_VOLT", _MICROVOLT),
    266560: ("MDC_DIM_FAHR", _FAHRENHEIT),
    266866: ("MDC_DIM_MILLI_MOLE_PER_L", _MMOL_L),
    268192: ("MDC_DIM_DEGC", _CELSIUS),
}
_BY_REFERENCE_ID: dict[str, Unit] = dict(_BY_MDC.values())

# Glucose has a molar mass of 180.156 g/mol: 1 mmol/L = 18.0156 mg/dL.
_GLUCOSE_MG_DL = Fraction("18.0156")


class UnitError(ValueError):
    """The unit is unknown or cannot be converted: the value is not guessed. The message is a short reason to count."""


@lru_cache(maxsize=256)  # a monitor writes a handful of units, thousands of times
def read_unit(triplets: tuple[Coded, ...]) -> Unit:
    """The one unit a coded field names. Raises UnitError when it names none, or two that differ."""
    units = [unit for triplet in triplets for unit in _named(triplet)]
    if not units:
        raise UnitError("unknown unit")
    if any(unit != units[0] for unit in units):
        raise UnitError("contradictory unit")
    return units[0]


def _named(triplet: Coded) -> list[Unit]:
    if triplet.system in ("MDC", "") and triplet.code.isascii() and triplet.code.isdecimal() and len(triplet.code) > 1:
        known = _BY_MDC.get(int(triplet.code[:10]))
        named = _BY_REFERENCE_ID.get(triplet.text)
        return [unit for unit in (known[1] if known else None, named) if unit is not None]
    if triplet.code in _BY_REFERENCE_ID:
        return [_BY_REFERENCE_ID[triplet.code]]
    return [_BY_NAME[triplet.code]] if triplet.code in _BY_NAME else []


def convert(value: Fraction, unit: Unit, canonical: str) -> Fraction:
    """The value in a UCUM unit of our vocabulary. Raises UnitError when the dimensions differ."""
    target = _BY_NAME[canonical]
    if unit is target:
        return value
    if unit.dimension != target.dimension:
        raise UnitError("unit contradicts the metric")
    return (value * unit.factor + unit.shift - target.shift) / target.factor


def to_metric(value: Fraction, unit: Unit, metric: Metric) -> Fraction:
    """The value in the metric's canonical unit. Raises UnitError.

    CO2 in volume percent is refused: turning it into a pressure needs the ambient pressure, which nobody sent.
    """
    if metric is Metric.GLUCOSE and unit == _MG_DL:
        return value / _GLUCOSE_MG_DL
    return convert(value, unit, METRICS[metric].unit)


# A repr'd double has at most 17 digits and a three-digit exponent; more would only buy an expensive Fraction.
_NUMBER = re.compile(r"[+-]?(?:\d{1,30}(?:\.\d{0,30})?|\.\d{1,30})(?:[eE][+-]?\d{1,3})?", re.ASCII)


@lru_cache(maxsize=1024)  # sample rates, resolutions and steady vital signs come again and again
def read_number(text: str) -> Fraction:
    """A decimal number, exactly. Raises ValueError."""
    text = text.strip()
    if not _NUMBER.fullmatch(text):
        raise ValueError("not a number")
    return Fraction(text)
