/** Numbers and times as a reader of the chosen language writes them. */
import type { Lesion } from './api/types';

function fixed(value: number, digits: number, language: string): string {
  return new Intl.NumberFormat(language, {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
    useGrouping: false,
  }).format(value);
}

/** Millimetres with one decimal. */
export function millimetres(value: number, language: string): string {
  return fixed(value, 1, language);
}

/** Millilitres: one decimal from 1 ml on, below it two, so that small lesions differ from nothing. */
export function millilitres(value: number, language: string): string {
  if (value > 0 && value < 0.005) return `<${fixed(0.01, 2, language)}`;
  return fixed(value, value >= 0.995 ? 1 : 2, language);
}

/** A probability in whole per cent. */
export function percent(value: number, language: string): string {
  return new Intl.NumberFormat(language, { style: 'percent', maximumFractionDigits: 0 }).format(value);
}

/** Date and time to the minute; an unreadable time gives the text as it came. */
export function dateTime(iso: string, language: string): string {
  const time = new Date(iso);
  if (Number.isNaN(time.getTime())) return iso;
  return new Intl.DateTimeFormat(language, { dateStyle: 'medium', timeStyle: 'short' }).format(time);
}

export interface Totals {
  count: number;
  diameter_mm: number;
  volume_ml: number;
}

/** Number of lesions, sum of the longest diameters and of the volumes. */
export function totals(lesions: readonly Lesion[]): Totals {
  return {
    count: lesions.length,
    diameter_mm: lesions.reduce((sum, lesion) => sum + lesion.longest_diameter_mm, 0),
    volume_ml: lesions.reduce((sum, lesion) => sum + lesion.volume_ml, 0),
  };
}
