/** Hand a file to the person at the browser. */
export function saveFile(content: Blob, name: string): void {
  const address = URL.createObjectURL(content);
  const link = document.createElement('a');
  link.href = address;
  link.download = name;
  link.click();
  // The browser takes the content when it has begun; then it may go.
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
