// Puts the unmodified viewer around the extension: dist is the `dist` folder of the npm
// package pinned in package.json ("metia.viewer"), checked against its sha512, with our
// app-config.js in the place of the package's example and our metia-ext folder added.
// The package is fetched alone (`npm pack`), because its several hundred dependencies are
// already inside its bundles and would only be downloaded to be thrown away.
// Text files get a .gz neighbour (nginx: gzip_static), so that no request compresses 17 MB.
// METIA_VIEWER_TARBALL names a tarball that is already there (machines without network).
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

const here = dirname(dirname(fileURLToPath(import.meta.url)));
const { viewer } = JSON.parse(readFileSync(join(here, 'package.json'), 'utf8')).metia;
const dist = join(here, 'dist');
const stamp = join(dist, 'viewer.json');

function run(command, args) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8', cwd: here });
  if (error || status !== 0) throw new Error(`${command} ${args[0]} failed: ${error?.message ?? stderr}`);
  return stdout;
}

function tarball(folder) {
  if (process.env.METIA_VIEWER_TARBALL) return process.env.METIA_VIEWER_TARBALL;
  const answer = run('npm', ['pack', `${viewer.package}@${viewer.version}`, '--json', '--pack-destination', folder]);
  const name = JSON.parse(answer)[0].filename.replace('@', '').replace('/', '-');
  return join(folder, name);
}

function* files(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* files(path);
    else yield path;
  }
}

function compress(folder) {
  for (const path of files(folder)) {
    if (/\.(js|css|wasm|json|svg)$/.test(path) && statSync(path).size > 4096) {
      writeFileSync(`${path}.gz`, gzipSync(readFileSync(path), { level: 6 }));
    }
  }
}

function removeOldViewer() {
  mkdirSync(dist, { recursive: true });
  for (const name of readdirSync(dist)) {
    if (name !== 'metia-ext') rmSync(join(dist, name), { recursive: true, force: true });
  }
}

function ownFiles() {
  cpSync(join(here, 'app-config.js'), join(dist, 'app-config.js'));
  rmSync(join(dist, 'app-config.js.gz'), { force: true });
}

if (existsSync(stamp) && readFileSync(stamp, 'utf8') === JSON.stringify(viewer)) {
  ownFiles();
  console.log(`viewer ${viewer.version} is already in place`);
  process.exit(0);
}
const work = mkdtempSync(join(tmpdir(), 'metia-viewer-'));
try {
  const file = tarball(work);
  const found = `sha512-${createHash('sha512').update(readFileSync(file)).digest('base64')}`;
  if (found !== viewer.integrity) throw new Error(`${viewer.package} ${viewer.version} is not the pinned file (${found})`);
  run('tar', ['-xzf', file, '-C', work, 'package/dist', 'package/LICENSE']);
  compress(join(work, 'package', 'dist'));
  rmSync(stamp, { force: true });
  removeOldViewer();
  cpSync(join(work, 'package', 'dist'), dist, { recursive: true });
  cpSync(join(work, 'package', 'LICENSE'), join(dist, 'LICENSE'));
  ownFiles();
  writeFileSync(stamp, JSON.stringify(viewer));
  console.log(`viewer ${viewer.version} put in place`);
} finally {
  rmSync(work, { recursive: true, force: true });
}
