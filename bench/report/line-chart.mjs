// Line charts as one SVG document, one below the other.

const width = 760;
const height = 300;
const margin = { left: 64, right: 110, top: 40, bottom: 44 };
const colours = ["#1f77b4", "#ff7f0e", "#d62728", "#2ca02c"];

const escapes = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
const escapeText = (text) => String(text).replace(/[&<>"]/g, (character) => escapes[character]);

/** Round numbers from 0 or below the smallest value to above the largest: 1, 2 or 5 times a power of ten apart. */
export function ticksOf(values, count = 6) {
  const low = Math.min(0, ...values);
  const high = Math.max(...values, low + Number.MIN_VALUE);
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw * (1 - 1e-9));
  const first = Math.floor(low / step);
  const last = Math.max(first + 1, Math.ceil(high / step - 1e-9));
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

function scaleOf(ticks, from, to) {
  const [low, high] = [ticks[0], ticks[ticks.length - 1]];
  return (value) => Math.round((from + ((value - low) / (high - low)) * (to - from)) * 10) / 10;
}

const text = (x, y, content, attributes = "") =>
  `<text x="${x}" y="${y}"${attributes}>${escapeText(content)}</text>`;
const line = (x1, y1, x2, y2, attributes) =>
  `<line x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}" ${attributes}/>`;

function axes({ x, y }, xTicks, yTicks, xAt, yAt) {
  const [left, right] = [margin.left, width - margin.right];
  const bottom = height - margin.bottom;
  return [
    ...yTicks.map(
      (tick) =>
        line(left, yAt(tick), right, yAt(tick), 'stroke="#ddd"') +
        text(left - 8, yAt(tick) + 4, tick, ' text-anchor="end"'),
    ),
    ...xTicks.map((tick) => text(xAt(tick), bottom + 18, tick, ' text-anchor="middle"')),
    line(left, bottom, right, bottom, 'stroke="#333"'),
    text((left + right) / 2, height - 6, x.label, ' text-anchor="middle"'),
    text(left, margin.top - 8, y.label, ' text-anchor="end"'),
  ];
}

function drawSeries({ name, points }, colour, row, xAt, yAt) {
  const path = points.map(([x, y]) => `${xAt(x)},${yAt(y)}`).join(" ");
  const dots = points.length > 20 ? [] : points.map(([x, y]) => dot(xAt(x), yAt(y), colour));
  const labelY = margin.top + 6 + 18 * row;
  return [
    `<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="1.5"/>`,
    ...dots,
    dot(width - margin.right + 14, labelY - 4, colour),
    text(width - margin.right + 22, labelY, name),
  ];
}

const dot = (x, y, colour) => `<circle cx="${x}" cy="${y}" r="3" fill="${colour}"/>`;

function drawMarks({ horizontals = [], verticals = [] }, xAt, yAt) {
  const dashes = 'stroke="#666" stroke-dasharray="5 4"';
  return [
    ...horizontals.map(
      ({ at, label }) =>
        line(margin.left, yAt(at), width - margin.right, yAt(at), dashes) +
        text(width - margin.right + 4, yAt(at) + 4, label),
    ),
    ...verticals.map(
      ({ at, label }) =>
        line(xAt(at), margin.top, xAt(at), height - margin.bottom, dashes) +
        text(xAt(at) + 4, margin.top + 10, label),
    ),
  ];
}

function drawChart(chart, index) {
  const { title, series, horizontals = [], verticals = [] } = chart;
  const along = (axis, marks) => [
    ...series.flatMap(({ points }) => points.map((point) => point[axis])),
    ...marks.map(({ at }) => at),
  ];
  const [xTicks, yTicks] = [ticksOf(along(0, verticals)), ticksOf(along(1, horizontals))];
  const xAt = scaleOf(xTicks, margin.left, width - margin.right);
  const yAt = scaleOf(yTicks, height - margin.bottom, margin.top);
  return [
    `<g transform="translate(0 ${index * height})">`,
    text(width / 2, 20, title, ' text-anchor="middle" font-weight="bold"'),
    ...axes(chart, xTicks, yTicks, xAt, yAt),
    ...drawMarks(chart, xAt, yAt),
    ...series.flatMap((one, i) => drawSeries(one, colours[i % colours.length], i, xAt, yAt)),
    "</g>",
  ];
}

/**
 * @typedef {{ title: string, x: { label: string }, y: { label: string },
 *   series: { name: string, points: [number, number][] }[], horizontals?: { at: number, label: string }[],
 *   verticals?: { at: number, label: string }[] }} Chart
 */

/**
 * An SVG document of charts whose axes begin at 0, or below where values do; marks are dashed lines across.
 * @param {Chart[]} charts
 */
export function lineCharts(charts) {
  const all = height * charts.length;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${all}" viewBox="0 0 ${width} ${all}" ` +
      'font-family="sans-serif" font-size="12">',
    `<rect width="${width}" height="${all}" fill="white"/>`,
    ...charts.flatMap(drawChart),
    "</svg>\n",
  ].join("\n");
}
