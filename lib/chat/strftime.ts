const days = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const months = [
  "January",
  "February",
  "March",
  "April",
  "May",
  "June",
  "July",
  "August",
  "September",
  "October",
  "November",
  "December",
];

function dayOfYear(date: Date): number {
  const start = Date.UTC(date.getFullYear(), 0, 1);
  return (Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) - start) / 86_400_000 + 1;
}

const directives: Record<string, (date: Date) => string | number> = {
  Y: (date) => date.getFullYear(),
  y: (date) => date.getFullYear() % 100,
  m: (date) => date.getMonth() + 1,
  d: (date) => date.getDate(),
  H: (date) => date.getHours(),
  I: (date) => date.getHours() % 12 || 12,
  M: (date) => date.getMinutes(),
  S: (date) => date.getSeconds(),
  j: dayOfYear,
  p: (date) => (date.getHours() < 12 ? "AM" : "PM"),
  A: (date) => days[date.getDay()] ?? "",
  a: (date) => (days[date.getDay()] ?? "").slice(0, 3),
  B: (date) => months[date.getMonth()] ?? "",
  b: (date) => (months[date.getMonth()] ?? "").slice(0, 3),
  "%": () => "%",
};

const widths: Record<string, number> = { Y: 4, j: 3 };

/**
 * Python's `strftime` in the C locale and the local time zone, for the directives of dates and times of day.
 * A `-` leaves the padding out; unknown directives stay as they are.
 */
export function strftime(date: Date, format: string): string {
  return format.replace(/%(-?)([A-Za-z%])/g, (directive, bare: string, letter: string) => {
    const value = Object.hasOwn(directives, letter) ? directives[letter]?.(date) : undefined;
    if (value === undefined) return directive;
    if (typeof value === "string" || bare) return String(value);
    return String(value).padStart(widths[letter] ?? 2, "0");
  });
}
