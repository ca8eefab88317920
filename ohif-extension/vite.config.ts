import { defineConfig } from 'vitest/config';

export default defineConfig({
  // A library build leaves process.env in React, which a browser does not have.
  define: { 'process.env.NODE_ENV': '"production"' },
  esbuild: { jsx: 'automatic', legalComments: 'eof' },
  build: {
    outDir: 'dist/metia-ext',
    emptyOutDir: true,
    target: 'es2022',
    lib: {
      entry: { extension: 'src/extension.ts', mode: 'src/mode.ts' },
      formats: ['es'],
      fileName: (_format, name) => `${name}.js`,
    },
  },
  test: { include: ['tests/**/*.test.ts', 'tests/**/*.test.tsx'] },
});
