/**
 * The visit before: beside this one on the images, and as the place of what is gone.
 *
 * Matrices come from the course; without an accepted registration nothing is moved from
 * one visit to the other, and the two views are not linked.
 */
import type { ReaderApi } from './api/reader';
import type { Lesion, Result } from './api/types';
import type { Viewer } from './ohif/viewer';
import type { Surroundings } from './reading';
import { between, movePoint, observationAt, previousVisit, type Row } from './state/comparison';
import { selectedLesion, shownResult, type State } from './state/state';
import type { Store } from './state/store';

interface Drawing {
  select(lesion: Lesion): Promise<void>;
  draw(result: Result): Promise<void>;
}

export class Visits {
  /** Results of other visits, by id; a version never changes its lesions. */
  private readonly elsewhere = new Map<string, Promise<Result>>();

  constructor(
    private readonly api: ReaderApi,
    private readonly viewer: Viewer,
    private readonly store: Store<State>,
    private readonly around: Pick<Surroundings, 'signal' | 'fail'>,
    private readonly drawing: Drawing,
  ) {}

  /** Go to the lesion of a row; one that is gone is shown where it was. */
  async select(row: Row): Promise<void> {
    if (row.lesion) return this.drawing.select(row.lesion);
    const { course, studyUid, compare } = this.store.get();
    const result = shownResult(this.store.get());
    const previous = previousVisit(course, studyUid);
    const was = row.track && previous && observationAt(row.track, previous.study_uid)?.lesion_id;
    if (!result || !previous?.result_id || !was) return;
    try {
      const prior = await this.resultOf(previous.result_id);
      const lesion = prior.lesions.find((it) => it.id === was);
      const matrix = between(course, previous.study_uid, result.study_uid);
      if (lesion && matrix) await this.viewer.goToPoint(result, movePoint(matrix, lesion.centroid_mm));
      else if (lesion && compare === 'on') await this.viewer.goToPoint(prior, lesion.centroid_mm);
    } catch (error) {
      this.around.fail(error);
    }
  }

  /** Show the visit before beside this one, or put it away. */
  toggle(): Promise<void> {
    const { compare } = this.store.get();
    if (compare === 'on') return this.end();
    return compare === 'off' ? this.begin() : Promise.resolve();
  }

  /** One colour a lesion over all visits: that of its track. */
  paint(result: Result): void {
    const { course } = this.store.get();
    const colours = new Map<number, readonly number[]>();
    for (const lesion of result.lesions) {
      const track = course?.tracks.find((it) => observationAt(it, result.study_uid)?.lesion_id === lesion.id);
      if (track) colours.set(lesion.segment_number, track.colour);
    }
    if (colours.size > 0) this.viewer.paint(result, colours);
  }

  private async begin(): Promise<void> {
    const { course, studyUid } = this.store.get();
    const result = shownResult(this.store.get());
    const previous = previousVisit(course, studyUid);
    if (!result || !previous?.result_id) return;
    const signal = this.around.signal();
    this.viewer.hideDiameters();
    this.store.set({ compare: 'opening', problem: null, diameters: false });
    try {
      const prior = await this.resultOf(previous.result_id);
      const matrix = between(course, result.study_uid, previous.study_uid);
      await this.viewer.compare(prior, result, matrix);
      if (signal.aborted) return;
      this.store.set({ compare: 'on', linked: matrix !== null });
      this.paint(prior);
      this.paint(result);
      const lesion = selectedLesion(this.store.get()) ?? result.lesions[0];
      if (lesion) await this.drawing.select(lesion);
    } catch (error) {
      if (signal.aborted) return;
      this.viewer.endCompare();
      this.store.set({ compare: 'off' });
      this.around.fail(error);
    }
  }

  private async end(): Promise<void> {
    const result = shownResult(this.store.get());
    this.viewer.endCompare();
    this.store.set({ compare: 'off', linked: false });
    if (!result) return;
    await this.drawing.draw(result);
    const lesion = selectedLesion(this.store.get());
    if (lesion) await this.drawing.select(lesion);
  }

  private resultOf(id: string): Promise<Result> {
    const known = this.elsewhere.get(id) ?? this.api.result(id);
    this.elsewhere.set(id, known);
    known.catch(() => this.elsewhere.delete(id));
    return known;
  }
}
