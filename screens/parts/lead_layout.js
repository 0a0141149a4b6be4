// Where each lead goes on the sheet. Pure.

export const LAYOUTS = ["4x3", "6x2"];

/** Leads in the order a 12-lead sheet reads them; unknown names keep their own order behind. */
export function orderLeads(leads, standard) {
  const place = (lead) => (standard.includes(lead) ? standard.indexOf(lead) : standard.length);
  return leads.map((lead, k) => [place(lead), k, lead]).sort((a, b) => a[0] - b[0] || a[1] - b[1]).map((x) => x[2]);
}

/**
 * `4x3` reads four columns of three leads, `6x2` six rows of two; both end in a rhythm strip.
 * Few leads need no columns: they get the whole width, and no strip repeats them.
 */
export function arrange(leads, layout, standard, withRhythm) {
  const ordered = orderLeads(leads, standard);
  const columns = ordered.length <= 4 ? 1 : ordered.length <= 8 ? 2 : layout === "4x3" ? 4 : 2;
  const rows = Math.ceil(ordered.length / columns);
  const cells = ordered.map((lead, k) => ({ lead, column: Math.floor(k / rows), row: k % rows }));
  const rhythm = withRhythm && columns > 1 ? (ordered.find((lead) => lead === "II") ?? ordered[0]) : null;
  return { columns, rows, cells, rhythm };
}

// Less than this and neighbouring leads run into each other: 20 mm is 2 mV at 10 mm/mV, 45 mm is 1.8 s at 25 mm/s.
const ROW_MM = 20;
const COLUMN_MM = 45;

/** How much of true size fits, in whole percent, at most 100. */
export function sizePercent(columnPx, rowPx, pxPerMm) {
  const fit = Math.min(1, rowPx / (ROW_MM * pxPerMm), columnPx / (COLUMN_MM * pxPerMm));
  return Math.max(10, Math.floor(fit * 100));
}
