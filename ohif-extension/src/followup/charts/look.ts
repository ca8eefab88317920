/** Colours and shapes of the charts: a lesion has the colour it has in the viewer. */
import { symbol, symbolCircle, symbolDiamond, symbolSquare, symbolStar, symbolTriangle, symbolWye, type SymbolType } from 'd3-shape';
import type { Track } from '../shape/course';

const SHAPES: readonly SymbolType[] = [symbolCircle, symbolSquare, symbolTriangle, symbolDiamond, symbolStar, symbolWye];
const DARKEST = 0.2;

/** A colour never stands alone: lesions of like colour differ in shape. */
export function shapePath(index: number, area: number): string {
  return symbol(SHAPES[index % SHAPES.length], area)() ?? '';
}

function luminance([red = 0, green = 0, blue = 0]: readonly number[]): number {
  const [r, g, b] = [red, green, blue].map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** The lesion's own colour; where it would drown in the dark page, a lighter one of the same hue. */
export function trackColour(track: Pick<Track, 'colour'>): string {
  let colour = [...track.colour];
  for (let n = 0; n < 12 && luminance(colour) < DARKEST; n += 1) colour = colour.map((value) => value + (255 - value) * 0.15);
  return `rgb(${colour.map((value) => Math.round(value)).join(' ')})`;
}

const LABEL_LENGTH = 11;

/** A lesion's name as far as it fits beside its line; a reader may give it up to 32 letters. */
export function shortLabel(label: string, length = LABEL_LENGTH): string {
  return label.length > length ? `${label.slice(0, length - 1)}…` : label;
}

const CATEGORY_CLASSES: Record<string, string> = { CR: 'cr', PR: 'pr', SD: 'sd', PD: 'pd', NED: 'cr', NON_CR_NON_PD: 'sd' };

export function categoryClass(category: string | null | undefined): string {
  return `mfu-cat mfu-cat-${CATEGORY_CLASSES[category ?? ''] ?? 'none'}`;
}
