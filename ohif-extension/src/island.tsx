/**
 * Shows a component of our own React inside the viewer.
 *
 * The viewer shares no React at run time. It accepts a class component of ours (same
 * element symbol, and a class needs no hooks of the host), which owns a plain element and
 * runs a React root of its own in it; the root ends with the element.
 */
import { Component, createElement, createRef, type ComponentType, type ReactElement } from 'react';
import { createRoot, type Root } from 'react-dom/client';

class Island extends Component<{ render: () => ReactElement }> {
  private readonly element = createRef<HTMLDivElement>();
  private root: Root | null = null;

  override componentDidMount(): void {
    if (!this.element.current) return;
    this.root = createRoot(this.element.current);
    this.root.render(this.props.render());
  }

  override componentWillUnmount(): void {
    const root = this.root;
    this.root = null;
    // The host may be rendering just now; a root must not end inside another's render.
    if (root) queueMicrotask(() => root.unmount());
  }

  override render(): ReactElement {
    return createElement('div', { ref: this.element, className: 'metia-island' });
  }
}

/** Wrap a component so that the viewer can mount it as one of its own. */
export function island<P extends object>(content: ComponentType<P>, props: P): () => ReactElement {
  return () => createElement(Island, { render: () => createElement(content, props) });
}
