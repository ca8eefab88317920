/** Asking before a page with unsaved outlines is left. */
const WAY_BACK = '[data-cy="return-to-work-list"], [data-cy="metia-followup"]';

/**
 * Ask where the browser or the viewer's own way back, or ours to the follow-up, would leave; gives the way to stop.
 *
 * @param unsaved whether there is anything to lose just now
 * @param ask whether the reader wants to leave all the same
 */
export function guardLeaving(unsaved: () => boolean, ask: () => boolean): () => void {
  const closing = (event: BeforeUnloadEvent) => {
    if (unsaved()) event.preventDefault();
  };
  const clicking = (event: MouseEvent) => {
    const back = event.target instanceof Element && event.target.closest(WAY_BACK);
    if (!back || !unsaved() || ask()) return;
    event.preventDefault();
    event.stopPropagation();
  };
  window.addEventListener('beforeunload', closing);
  document.addEventListener('click', clicking, true);
  return () => {
    window.removeEventListener('beforeunload', closing);
    document.removeEventListener('click', clicking, true);
  };
}
