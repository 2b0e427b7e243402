// Reads an AsyncAPI document from standard input, and writes its types into a folder, as TypeScript.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { TypeScriptGenerator } from '@asyncapi/modelina';

const [folder] = process.argv.slice(2);
// With raw names a field is called as it is in JSON: Modelina has others for some words.
const generator = new TypeScriptGenerator({
  modelType: 'interface', mapType: 'record', enumType: 'union', rawPropertyNames: true,
});
const models = await generator.generateCompleteModels(
  JSON.parse(readFileSync(0, 'utf8')), { exportType: 'named', moduleSystem: 'ESM' },
);
for (const { modelName, result } of models) writeFileSync(join(folder, `${modelName}.ts`), result);
