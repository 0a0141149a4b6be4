// Every word the screens show, in one table; and the language in use.
import { ACCESS } from "./strings_access.js";
import { FLEET } from "./strings_fleet.js";
import { SIGN_IN } from "./strings_sign_in.js";

const TABLE = {
  title: { en: "Emergency room", zh: "急诊大屏" },
  disclaimer: {
    en: "Decision support and secondary alarm path; not a substitute for the bedside monitor",
    zh: "辅助决策与第二报警通道,不能替代床旁监护",
  },
  language: { en: "中文", zh: "English" },
  language_hint: { en: "切换到中文", zh: "Switch to English" },
  incoming: { en: "Incoming patients", zh: "在途患者" },
  no_sessions: { en: "No patient is connected", zh: "当前没有患者接入" },
  no_sessions_hint: {
    en: "A patient appears here as soon as a vehicle or booth opens a session.",
    zh: "车辆或健康小屋开始采集后,患者会自动出现在这里。",
  },
  none_routed: { en: "No patient is routed to {hospital}", zh: "没有分配至 {hospital} 的患者" },
  none_routed_hint: {
    en: "A patient appears here as soon as one is routed to you. Others may be connected: break glass opens one in an emergency.",
    zh: "患者一经分配至本院即自动出现。可能另有患者在线:紧急情况下可用“紧急调阅”打开。",
  },
  patient: { en: "Patient", zh: "单人" },
  wall: { en: "Wall", zh: "多人墙" },
  wall_add: { en: "Add to wall", zh: "加入多人墙" },
  wall_remove: { en: "Remove from wall", zh: "移出多人墙" },
  open_patient: { en: "Open patient", zh: "打开患者" },
  mission: { en: "Ambulance", zh: "救护车" },
  visit: { en: "Kiosk visit", zh: "小屋就诊" },
  home: { en: "Home", zh: "居家" },
  online: { en: "online", zh: "在线" },
  offline: { en: "OFFLINE", zh: "离线" },
  gateway_unknown: { en: "gateway unknown", zh: "网关状态未知" },
  ended: { en: "Session ended", zh: "会话已结束" },
  age: { en: "Data age", zh: "数据延迟" },
  never: { en: "none yet", zh: "尚无" },
  backlog: { en: "backlog {n}", zh: "积压 {n}" },
  clock_unsynchronised: { en: "gateway clock not synchronised", zh: "网关时钟未校准" },
  frames_dropped: { en: "this screen dropped {n} frames", zh: "本屏丢弃 {n} 帧" },
  layout: { en: "Layout", zh: "布局" },
  speed: { en: "Speed", zh: "走纸" },
  gain: { en: "Gain", zh: "增益" },
  rhythm: { en: "rhythm", zh: "节律" },
  auto_gain: { en: "auto gain", zh: "自动增益" },
  size: { en: "size {n} %", zh: "尺寸 {n} %" },
  calibrated: { en: "calibrated", zh: "已校准" },
  nominal: { en: "96 dpi", zh: "96 dpi" },
  calibrate: { en: "Screen size", zh: "屏幕校准" },
  calibrate_text: {
    en: "Hold a ruler to the screen and move the slider until the bar is exactly 100 mm long.",
    zh: "用直尺贴住屏幕,移动滑块,直到横条正好长 100 毫米。",
  },
  calibrate_reset: { en: "Nominal (96 dpi)", zh: "恢复标称值(96 dpi)" },
  close: { en: "Close", zh: "关闭" },
  lead_off: { en: "lead off", zh: "导联脱落" },
  baseline: { en: "baseline {v} mV", zh: "基线 {v} mV" },
  no_waveform: { en: "No waveform received", zh: "未收到波形" },
  old: { en: "OLD", zh: "过期" },
  wrong_clock: { en: "WRONG CLOCK", zh: "时钟错误" },
  clock_ahead: { en: "{age} ahead", zh: "超前{age}" },
  ago: { en: "{age} ago", zh: "{age}前" },
  absent: { en: "not measured", zh: "未测" },
  invalid: { en: "invalid", zh: "无效" },
  questionable: { en: "check signal", zh: "信号可疑" },
  nibp: { en: "NIBP", zh: "无创血压" },
  short_heart_rate: { en: "HR", zh: "心率" },
  short_pulse_rate: { en: "PR", zh: "脉率" },
  short_pulse_rate_pleth: { en: "PR", zh: "脉率" },
  short_pulse_rate_nibp: { en: "PR", zh: "脉率" },
  short_spo2: { en: "SpO₂", zh: "血氧" },
  short_nibp: { en: "NIBP", zh: "血压" },
  short_respiratory_rate: { en: "RR", zh: "呼吸" },
  short_respiratory_rate_impedance: { en: "RR", zh: "呼吸" },
  short_respiratory_rate_co2: { en: "RR", zh: "呼吸" },
  arterial: { en: "Arterial pressure", zh: "有创血压" },
  trend_window: { en: "30 min", zh: "30 分钟" },
  no_alarms: { en: "No active alarm received", zh: "未收到活动报警" },
  alarms: { en: "Alarms", zh: "报警" },
  more_alarms: { en: "+{n} more", zh: "+{n} 条" },
  fewer_alarms: { en: "fewer", zh: "收起" },
  cleared_list: { en: "Cleared, last 10 min", zh: "10 分钟内已解除" },
  events_list: { en: "Events", zh: "事件" },
  onset: { en: "onset {time}", zh: "起始 {time}" },
  onset_unknown: { en: "onset unknown: clock not set", zh: "起始时间未知:时钟未设置" },
  cleared_at: { en: "cleared {time}", zh: "{time} 解除" },
  delayed: { en: "DELAYED", zh: "延迟送达" },
  escalated: { en: "escalated", zh: "已升级" },
  limit: { en: "limit {v}", zh: "限值 {v}" },
  priority_3: { en: "HIGH", zh: "高级" },
  priority_2: { en: "MEDIUM", zh: "中级" },
  priority_1: { en: "LOW", zh: "低级" },
  technical: { en: "technical", zh: "技术报警" },
  physiological: { en: "physiological", zh: "生理报警" },
  this_screen: { en: "this screen", zh: "本屏" },
  no_data: { en: "NO DATA", zh: "无数据" },
  since: { en: "since {time} ({age})", zh: "自 {time} 起({age})" },
  because_offline: { en: "gateway offline", zh: "网关离线" },
  because_silent: { en: "no new samples", zh: "没有新采样" },
  because_screen: { en: "screen disconnected", zh: "屏幕断线" },
  screen_dead: { en: "Screen disconnected from server", zh: "屏幕与服务器断开" },
  screen_dead_hint: {
    en: "Nothing on this screen is current. Reconnecting…",
    zh: "本屏所有内容均非当前数据,正在重新连接…",
  },
  connecting: { en: "Connecting to server…", zh: "正在连接服务器…" },
  demo: { en: "DEMO", zh: "演示" },
  test: { en: "TEST", zh: "测试" },
  demo_watermark: { en: "DEMO: simulated data, not a patient", zh: "演示:模拟数据,非真实患者" },
  test_watermark: { en: "TEST: not a patient", zh: "测试:非真实患者" },
  auto_sign_in: { en: "demo: signed in automatically", zh: "演示:已自动登录" },
  identified: { en: "identified", zh: "已识别" },
  metric_high: { en: "{metric} high", zh: "{metric}过高" },
  metric_low: { en: "{metric} low", zh: "{metric}过低" },
  colon: { en: ": ", zh: ":" },
  ...ACCESS,
  ...FLEET,
  ...SIGN_IN,
};

// Alarm conditions and device events that are not `<metric>_high` or `<metric>_low`.
const CODES = {
  no_data: { en: "No data", zh: "无数据" },
  leads_off: { en: "Leads off", zh: "导联脱落" },
  leads_on: { en: "Leads on", zh: "导联恢复" },
  sensor_off: { en: "Sensor off", zh: "传感器脱落" },
  sensor_on: { en: "Sensor on", zh: "传感器恢复" },
  link_lost: { en: "Link lost", zh: "链路中断" },
  disk_full: { en: "Disk full", zh: "磁盘已满" },
  battery: { en: "Battery", zh: "电池" },
  battery_low: { en: "Battery low", zh: "电池电量低" },
  button_pressed: { en: "Button pressed", zh: "按键" },
  card_scanned: { en: "Card scanned", zh: "已刷卡" },
  measurement_failed: { en: "Measurement failed", zh: "测量失败" },
  connected: { en: "Device connected", zh: "设备已连接" },
  disconnected: { en: "Device disconnected", zh: "设备已断开" },
  asystole: { en: "Asystole", zh: "心搏停止" },
  ventricular_fibrillation: { en: "Ventricular fibrillation", zh: "心室颤动" },
  ventricular_tachycardia: { en: "Ventricular tachycardia", zh: "室性心动过速" },
  atrial_fibrillation: { en: "Atrial fibrillation", zh: "心房颤动" },
};

const STORAGE_KEY = "vitalwire.language";
let current = "en";

export const LANGUAGES = ["zh", "en"];

/** The language asked for by `?lang=`, else the stored one, else the browser's. */
export function chooseLanguage(search, stored, browser) {
  const asked = new URLSearchParams(search).get("lang");
  if (LANGUAGES.includes(asked)) return asked;
  if (LANGUAGES.includes(stored)) return stored;
  return String(browser).toLowerCase().startsWith("zh") ? "zh" : "en";
}

export function startLanguage() {
  setLanguage(chooseLanguage(location.search, localStorage.getItem(STORAGE_KEY), navigator.language));
}

export function setLanguage(language) {
  current = language;
  if (typeof document === "undefined") return;
  localStorage.setItem(STORAGE_KEY, language);
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
}

export const language = () => current;
export const otherLanguage = () => (current === "zh" ? "en" : "zh");

export function t(key, values = {}, lang = current) {
  const text = TABLE[key]?.[lang] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
}

/** The same text in both languages, the reader's own first: for what nobody may fail to understand. */
export const both = (key) => `${t(key)} / ${t(key, {}, otherLanguage())}`;

export const codeWords = (code) => CODES[code]?.[current] ?? null;
export const allStrings = () => ({ ...TABLE, ...CODES });
