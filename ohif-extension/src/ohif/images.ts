/** Finding the image of a SOP instance among the viewer's image ids. */

/**
 * Index of the image that shows an instance, or -1.
 *
 * Slice numbers are never used for this: the viewer sorts in its own way. The UID is
 * compared as a whole path segment or parameter, since one UID may begin another.
 *
 * @param frameNumber one-based frame of a multi-frame instance; null or undefined: any
 */
export function imageIndexOf(imageIds: readonly string[], sopInstanceUid: string, frameNumber?: number | null): number {
  return imageIds.findIndex((id) => {
    const parts = id.split(/[/?&=:]/);
    if (!parts.includes(sopInstanceUid)) return false;
    if (frameNumber == null) return true;
    const frame = /\/frames\/(\d+)/.exec(id)?.[1] ?? /[?&]frame=(\d+)/.exec(id)?.[1];
    return frame === undefined || Number(frame) === frameNumber;
  });
}
