"""The metrics and waveforms both ends know: title, canonical unit, codes and plausible range of each.

A message never carries a unit: a metric has exactly one, written here. Codes: IEEE 11073-10101 (MDC), LOINC, UCUM;
a code no source of ours could verify is left out, for a site to supply by configuration.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Metric(StrEnum):
    """What a numeric measures; the value is what travels, so it never changes once released."""

    HEART_RATE = "heart_rate"
    PULSE_RATE_PLETH = "pulse_rate_pleth"
    PULSE_RATE_NIBP = "pulse_rate_nibp"
    PULSE_RATE = "pulse_rate"
    RR_INTERVAL = "rr_interval"
    RESPIRATORY_RATE = "respiratory_rate"
    RESPIRATORY_RATE_IMPEDANCE = "respiratory_rate_impedance"
    RESPIRATORY_RATE_CO2 = "respiratory_rate_co2"
    SPO2 = "spo2"
    PERFUSION_INDEX = "perfusion_index"
    SPO2_SIGNAL_QUALITY = "spo2_signal_quality"
    NIBP_SYSTOLIC = "nibp_systolic"
    NIBP_DIASTOLIC = "nibp_diastolic"
    NIBP_MEAN = "nibp_mean"
    ARTERIAL_SYSTOLIC = "arterial_systolic"
    ARTERIAL_DIASTOLIC = "arterial_diastolic"
    ARTERIAL_MEAN = "arterial_mean"
    TEMPERATURE = "temperature"
    TEMPERATURE_BODY = "temperature_body"
    TEMPERATURE_TYMPANIC = "temperature_tympanic"
    TEMPERATURE_ORAL = "temperature_oral"
    TEMPERATURE_RECTAL = "temperature_rectal"
    TEMPERATURE_EAR = "temperature_ear"
    TEMPERATURE_AXILLARY = "temperature_axillary"
    GLUCOSE = "glucose"
    GLUCOSE_INTERSTITIAL = "glucose_interstitial"
    WEIGHT = "weight"
    HEIGHT = "height"
    BMI = "bmi"
    BODY_FAT = "body_fat"
    BODY_IMPEDANCE = "body_impedance"
    MUSCLE_PERCENT = "muscle_percent"
    MUSCLE_MASS = "muscle_mass"
    FAT_FREE_MASS = "fat_free_mass"
    SOFT_LEAN_MASS = "soft_lean_mass"
    BODY_WATER_MASS = "body_water_mass"
    BASAL_METABOLISM = "basal_metabolism"
    CUFF_PRESSURE = "cuff_pressure"
    ETCO2 = "etco2"
    FIO2 = "fio2"
    O2_FLOW = "o2_flow"
    O2_SUPPLY_PRESSURE = "o2_supply_pressure"
    CABIN_TEMPERATURE = "cabin_temperature"
    CABIN_HUMIDITY = "cabin_humidity"
    ST_I = "st_i"
    ST_II = "st_ii"
    ST_III = "st_iii"
    ST_AVR = "st_avr"
    ST_AVL = "st_avl"
    ST_AVF = "st_avf"
    ST_V1 = "st_v1"
    ST_V2 = "st_v2"
    ST_V3 = "st_v3"
    ST_V4 = "st_v4"
    ST_V5 = "st_v5"
    ST_V6 = "st_v6"
    QT = "qt"
    QTC_BAZETT = "qtc_bazett"
    QTC_FRIDERICIA = "qtc_fridericia"
    PR = "pr"
    QRS_DURATION = "qrs_duration"
    PVC_RATE = "pvc_rate"
    GCS_TOTAL = "gcs_total"
    GCS_EYE = "gcs_eye"
    GCS_VERBAL = "gcs_verbal"
    GCS_MOTOR = "gcs_motor"
    ACVPU = "acvpu"
    NEWS2_TOTAL = "news2_total"
    PAIN = "pain"


class MetricFacts(NamedTuple):
    """What is known of one metric. Outside `plausible` a value is an artefact of the sensor, not of the patient."""

    title_en: str
    title_zh: str
    unit: str  # UCUM
    mdc: tuple[int, ...]  # IEEE 11073-10101, 32-bit; the first is the one we emit, the rest are aliases we accept
    loinc: tuple[str, ...]
    plausible: tuple[float, float]
    decimals: int = 0
    episodic: bool = False  # measured now and then and repeated by monitors until the next one


_M = Metric
_ST_RANGE = (-5.0, 5.0)


def _st(lead: str, mdc: int) -> MetricFacts:
    return MetricFacts(f"ST {lead}", f"ST {lead}", "mV", (mdc,), (), _ST_RANGE, 2)


METRICS: dict[Metric, MetricFacts] = {
    _M.HEART_RATE: MetricFacts("Heart rate", "心率", "/min", (147842,), ("8867-4",), (0, 350)),
    _M.PULSE_RATE_PLETH: MetricFacts("Pulse rate (SpO2)", "脉率", "/min", (149530,), ("8889-8", "8867-4"), (0, 350)),
    _M.PULSE_RATE_NIBP: MetricFacts(
        "Pulse rate (cuff)", "脉率(袖带)", "/min", (149546,), ("8867-4",), (0, 350), episodic=True
    ),
    # 149522 is what Comen monitors send for the generic pulse rate (DEVICES.md §6).
    _M.PULSE_RATE: MetricFacts("Pulse rate", "脉率", "/min", (149514, 149522), ("8867-4",), (0, 350)),
    _M.RR_INTERVAL: MetricFacts("RR interval", "RR间期", "ms", (), (), (100, 10_000)),
    _M.RESPIRATORY_RATE: MetricFacts("Respiratory rate", "呼吸率", "/min", (151562,), ("9279-1",), (0, 200)),
    _M.RESPIRATORY_RATE_IMPEDANCE: MetricFacts(
        "Respiratory rate (impedance)", "呼吸率(阻抗)", "/min", (151578,), ("9279-1",), (0, 200)
    ),
    _M.RESPIRATORY_RATE_CO2: MetricFacts(
        "Respiratory rate (CO2)", "呼吸率(CO2)", "/min", (151594,), ("9279-1",), (0, 200)
    ),
    _M.SPO2: MetricFacts("Oxygen saturation", "血氧饱和度", "%", (150456,), ("2708-6", "59408-5"), (0, 100)),
    _M.PERFUSION_INDEX: MetricFacts("Perfusion index", "灌注指数", "%", (150448, 150488), ("61006-3",), (0, 100), 2),
    _M.SPO2_SIGNAL_QUALITY: MetricFacts("SpO2 signal quality", "血氧信号质量", "%", (160324,), (), (0, 100)),
    # 150301–150303 are Mindray's MDC_PRESS_CUFF_* (CLINICAL.md §6.1).
    _M.NIBP_SYSTOLIC: MetricFacts(
        "Systolic pressure", "收缩压", "mm[Hg]", (150021, 150301), ("8480-6",), (0, 350), episodic=True
    ),
    _M.NIBP_DIASTOLIC: MetricFacts(
        "Diastolic pressure", "舒张压", "mm[Hg]", (150022, 150302), ("8462-4",), (0, 300), episodic=True
    ),
    _M.NIBP_MEAN: MetricFacts(
        "Mean pressure", "平均压", "mm[Hg]", (150023, 150303), ("8478-0",), (0, 320), episodic=True
    ),
    _M.ARTERIAL_SYSTOLIC: MetricFacts("Arterial systolic", "有创收缩压", "mm[Hg]", (150037, 150033), (), (-50, 400)),
    _M.ARTERIAL_DIASTOLIC: MetricFacts("Arterial diastolic", "有创舒张压", "mm[Hg]", (150038, 150034), (), (-50, 400)),
    _M.ARTERIAL_MEAN: MetricFacts("Arterial mean", "有创平均压", "mm[Hg]", (150039, 150035), (), (-50, 400)),
    _M.TEMPERATURE: MetricFacts("Temperature", "体温", "Cel", (150344,), ("8310-5",), (10, 50), 1),
    _M.TEMPERATURE_BODY: MetricFacts("Body temperature", "体温(体表)", "Cel", (150364,), ("8310-5",), (10, 50), 1),
    _M.TEMPERATURE_TYMPANIC: MetricFacts(
        "Tympanic temperature", "鼓膜温度", "Cel", (150392,), ("8310-5",), (10, 50), 1
    ),
    _M.TEMPERATURE_ORAL: MetricFacts(
        "Oral temperature", "口腔温度", "Cel", (188424,), ("8310-5",), (10, 50), 1, episodic=True
    ),
    _M.TEMPERATURE_RECTAL: MetricFacts("Rectal temperature", "直肠温度", "Cel", (188420,), ("8310-5",), (10, 50), 1),
    _M.TEMPERATURE_EAR: MetricFacts(
        "Ear temperature", "耳温", "Cel", (188428,), ("8310-5",), (10, 50), 1, episodic=True
    ),
    # 188496 is what Mindray VS monitors send as MDC_TEMP_AXIL.
    _M.TEMPERATURE_AXILLARY: MetricFacts(
        "Axillary temperature", "腋温", "Cel", (188496,), ("8310-5",), (10, 50), 1, episodic=True
    ),
    _M.GLUCOSE: MetricFacts("Glucose", "血糖", "mmol/L", (160184, 160020), ("15074-8",), (0.1, 100), 1, episodic=True),
    _M.GLUCOSE_INTERSTITIAL: MetricFacts("Glucose (interstitial)", "血糖(组织间液)", "mmol/L", (), (), (0.1, 100), 1),
    _M.WEIGHT: MetricFacts("Weight", "体重", "kg", (188736,), ("29463-7",), (0.2, 650), 1, episodic=True),
    _M.HEIGHT: MetricFacts("Height", "身高", "cm", (188740,), ("8302-2",), (20, 280), 1, episodic=True),
    _M.BMI: MetricFacts("Body mass index", "体质指数", "kg/m2", (188752,), ("39156-5",), (3, 250), 1, episodic=True),
    _M.BODY_FAT: MetricFacts("Body fat", "体脂率", "%", (), ("41982-0",), (0, 100), 1, episodic=True),
    _M.BODY_IMPEDANCE: MetricFacts("Body impedance", "身体阻抗", "Ohm", (), (), (50, 3000), episodic=True),
    _M.MUSCLE_PERCENT: MetricFacts("Muscle", "肌肉率", "%", (), (), (0, 100), 1, episodic=True),
    _M.MUSCLE_MASS: MetricFacts("Muscle mass", "肌肉量", "kg", (), (), (0, 650), 1, episodic=True),
    _M.FAT_FREE_MASS: MetricFacts("Fat-free mass", "去脂体重", "kg", (), (), (0, 650), 1, episodic=True),
    _M.SOFT_LEAN_MASS: MetricFacts("Soft lean mass", "瘦软组织量", "kg", (), (), (0, 650), 1, episodic=True),
    _M.BODY_WATER_MASS: MetricFacts("Body water", "体水分量", "kg", (), (), (0, 650), 1, episodic=True),
    _M.BASAL_METABOLISM: MetricFacts("Basal metabolism", "基础代谢", "kJ", (), (), (500, 30_000), episodic=True),
    # While it inflates: no blood pressure, and never charted as one.
    _M.CUFF_PRESSURE: MetricFacts("Cuff pressure", "袖带压", "mm[Hg]", (), (), (0, 350)),
    _M.ETCO2: MetricFacts("End-tidal CO2", "呼气末二氧化碳", "mm[Hg]", (151728, 151708), ("19889-5",), (0, 200)),
    _M.FIO2: MetricFacts("Inspired oxygen", "吸入氧浓度", "%", (152196,), ("3150-0",), (0, 100)),
    _M.O2_FLOW: MetricFacts("Oxygen flow", "氧流量", "L/min", (), ("3151-8",), (0, 100), 1),
    _M.O2_SUPPLY_PRESSURE: MetricFacts("Oxygen supply pressure", "供氧压力", "kPa", (), (), (0, 25_000)),
    _M.CABIN_TEMPERATURE: MetricFacts("Cabin temperature", "舱内温度", "Cel", (), (), (-40, 80), 1),
    _M.CABIN_HUMIDITY: MetricFacts("Cabin humidity", "舱内湿度", "%", (), (), (0, 100)),
    _M.ST_I: _st("I", 131841),
    _M.ST_II: _st("II", 131842),
    _M.ST_III: _st("III", 131901),
    _M.ST_AVR: _st("aVR", 131902),
    _M.ST_AVL: _st("aVL", 131903),
    _M.ST_AVF: _st("aVF", 131904),
    _M.ST_V1: _st("V1", 131843),
    _M.ST_V2: _st("V2", 131844),
    _M.ST_V3: _st("V3", 131845),
    _M.ST_V4: _st("V4", 131846),
    _M.ST_V5: _st("V5", 131847),
    _M.ST_V6: _st("V6", 131848),
    _M.QT: MetricFacts("QT interval", "QT间期", "ms", (147232,), (), (100, 1000)),
    _M.QTC_BAZETT: MetricFacts("QTc (Bazett)", "QTc(Bazett)", "ms", (146952,), (), (100, 1200)),
    _M.QTC_FRIDERICIA: MetricFacts("QTc (Fridericia)", "QTc(Fridericia)", "ms", (146964,), (), (100, 1200)),
    _M.PR: MetricFacts("PR interval", "PR间期", "ms", (147216,), (), (20, 600)),
    _M.QRS_DURATION: MetricFacts("QRS duration", "QRS时限", "ms", (147228,), (), (20, 400)),
    _M.PVC_RATE: MetricFacts("PVC rate", "室早频率", "/min", (148066,), (), (0, 350)),
    _M.GCS_TOTAL: MetricFacts("GCS total", "GCS总分", "{score}", (), (), (3, 15), episodic=True),
    _M.GCS_EYE: MetricFacts("GCS eye", "GCS睁眼", "{score}", (), (), (1, 4), episodic=True),
    _M.GCS_VERBAL: MetricFacts("GCS verbal", "GCS语言", "{score}", (), (), (1, 5), episodic=True),
    _M.GCS_MOTOR: MetricFacts("GCS motor", "GCS运动", "{score}", (), (), (1, 6), episodic=True),
    # 0 alert, 1 new confusion, 2 voice, 3 pain, 4 unresponsive.
    _M.ACVPU: MetricFacts("Consciousness (ACVPU)", "意识(ACVPU)", "{score}", (), (), (0, 4), episodic=True),
    _M.NEWS2_TOTAL: MetricFacts("NEWS2", "NEWS2评分", "{score}", (), (), (0, 20), episodic=True),
    _M.PAIN: MetricFacts("Pain", "疼痛评分", "{score}", (), (), (0, 10), episodic=True),
}


class WaveformFacts(NamedTuple):
    """What is known of one kind of stream: its titles and the UCUM unit its scale leads to."""

    title_en: str
    title_zh: str
    unit: str


WAVEFORMS: dict[str, WaveformFacts] = {
    "ecg": WaveformFacts("ECG", "心电", "mV"),
    "pleth": WaveformFacts("Pleth", "血氧波形", "{a.u.}"),
    "acceleration": WaveformFacts("Acceleration", "加速度", "m[g]"),
    "respiration": WaveformFacts("Respiration", "呼吸波形", "{a.u.}"),
}

# Standard display order of a 12-lead ECG, and the MDC code of each lead (MDC_ECG_ELEC_POTL_x, base 131328).
LEAD_MDC: dict[str, int] = {
    "I": 131329,
    "II": 131330,
    "III": 131389,
    "aVR": 131390,
    "aVL": 131391,
    "aVF": 131392,
    "V1": 131331,
    "V2": 131332,
    "V3": 131333,
    "V4": 131334,
    "V5": 131335,
    "V6": 131336,
}
TWELVE_LEADS: tuple[str, ...] = tuple(LEAD_MDC)

METRIC_BY_MDC: dict[int, Metric] = {code: metric for metric, facts in METRICS.items() for code in facts.mdc}
LEAD_BY_MDC: dict[int, str] = {code: lead for lead, code in LEAD_MDC.items()}
PLETH_MDC = 150452
