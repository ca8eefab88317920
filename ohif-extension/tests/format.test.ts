import { describe, expect, it } from 'vitest';
import { dateTime, millilitres, millimetres, percent, totals } from '../src/format';
import { lesion } from './fixtures';

describe('numbers', () => {
  it('have one decimal in millimetres, in the way of the language', () => {
    expect(millimetres(20.3745, 'en')).toBe('20.4');
    expect(millimetres(9, 'en')).toBe('9.0');
    expect(millimetres(20.3745, 'fr')).toBe('20,4');
    expect(millimetres(1234.5, 'en')).toBe('1234.5');
  });

  it('keep small volumes apart from nothing', () => {
    expect(millilitres(3.966, 'en')).toBe('4.0');
    expect(millilitres(0.0334, 'en')).toBe('0.03');
    expect(millilitres(0.996, 'en')).toBe('1.0');
    expect(millilitres(0.001, 'en')).toBe('<0.01');
    expect(millilitres(0, 'en')).toBe('0.00');
  });

  it('show a probability in per cent', () => {
    expect(percent(0.934, 'en')).toBe('93%');
  });

  it('leave a time that cannot be read as it is', () => {
    expect(dateTime('yesterday', 'en')).toBe('yesterday');
    expect(dateTime('2026-01-02T03:04:05Z', 'en')).toContain('2026');
  });
});

describe('totals', () => {
  it('are sums over all lesions', () => {
    const lesions = [lesion(1, { longest_diameter_mm: 12.5, volume_ml: 1 }), lesion(2, { longest_diameter_mm: 4, volume_ml: 0.25 })];
    expect(totals(lesions)).toEqual({ count: 2, diameter_mm: 16.5, volume_ml: 1.25 });
    expect(totals([])).toEqual({ count: 0, diameter_mm: 0, volume_ml: 0 });
  });
});
