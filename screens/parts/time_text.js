// Times as people read them: local clock time of a µs time point, and how long ago.
import { language } from "./strings.js";

const pad = (n) => String(n).padStart(2, "0");

export function clockText(timeUs) {
  const date = new Date(timeUs / 1000);
  return `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
}

/** `0.4 s` would flicker: whole seconds up to two minutes, then minutes, then hours. */
export function ageText(ageMs) {
  const seconds = Math.max(0, Math.floor(ageMs / 1000));
  const zh = language() === "zh";
  if (seconds < 120) return zh ? `${seconds}秒` : `${seconds} s`;
  if (seconds < 7200) return zh ? `${Math.floor(seconds / 60)}分钟` : `${Math.floor(seconds / 60)} min`;
  const hours = Math.floor(seconds / 3600);
  if (hours < 48) return zh ? `${hours}小时` : `${hours} h`;
  return zh ? `${Math.floor(hours / 24)}天` : `${Math.floor(hours / 24)} days`;
}

/** Local date and time, for what may lie days back. */
export function dateText(timeUs) {
  const date = new Date(timeUs / 1000);
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())} ${clockText(timeUs)}`;
}
