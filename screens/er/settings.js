// How the trace is drawn on this screen: gain, speed, layout and the true size of a millimetre, kept in this browser.
import { LAYOUTS } from "../parts/lead_layout.js";

const STORAGE_KEY = "vitalwire.er";
// CSS defines an inch as 96 px; a real screen differs until somebody calibrates it.
export const NOMINAL_PX_PER_MM = 96 / 25.4;
export const GAINS = [5, 10, 20]; // mm/mV
export const SPEEDS = [12.5, 25, 50]; // mm/s
const DEFAULTS = { gain: 10, speed: 25, layout: "4x3", pxPerMm: NOMINAL_PX_PER_MM };
const ALLOWED = {
  gain: (value) => GAINS.includes(value),
  speed: (value) => SPEEDS.includes(value),
  layout: (value) => LAYOUTS.includes(value),
  pxPerMm: (value) => value >= 1.5 && value <= 12,
};

export class Settings extends EventTarget {
  constructor() {
    super();
    Object.assign(this, DEFAULTS);
    try {
      const stored = JSON.parse(localStorage.getItem(STORAGE_KEY) ?? "{}");
      for (const [name, value] of Object.entries(stored)) if (ALLOWED[name]?.(value)) this[name] = value;
    } catch {
      localStorage.removeItem(STORAGE_KEY); // written by something else: defaults are right
    }
  }

  get isCalibrated() {
    return this.pxPerMm !== NOMINAL_PX_PER_MM;
  }

  set(name, value) {
    if (!ALLOWED[name](value)) return;
    this[name] = value;
    const { gain, speed, layout, pxPerMm } = this;
    localStorage.setItem(STORAGE_KEY, JSON.stringify({ gain, speed, layout, pxPerMm }));
    this.dispatchEvent(new Event("change"));
  }
}
