/** The panel's style sheet, put into the page once. */
import css from './panel.css?inline';

const ID = 'metia-style';

export function installStyle(page: Document = document): void {
  if (page.getElementById(ID)) return;
  const style = page.createElement('style');
  style.id = ID;
  style.textContent = css;
  page.head.append(style);
}
