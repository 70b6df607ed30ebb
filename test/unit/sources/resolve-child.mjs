// Resolves a source in a process of its own and prints what came of it as JSON.
import { resolveSource } from "../../../dist/sources/resolve-source.js";

const [source] = process.argv.slice(2);
const progress = [];
const onProgress = ({ loaded, total }) => {
  progress.push({ loaded, total });
  process.stderr.write(`${loaded}\n`);
};
try {
  const { path } = await resolveSource(source, { onProgress });
  process.stdout.write(JSON.stringify({ path, progress }));
} catch (error) {
  process.stdout.write(JSON.stringify({ code: error.code, message: error.message, progress }));
}
