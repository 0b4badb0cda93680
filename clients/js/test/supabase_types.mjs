// Print what `supabase gen types typescript` prints, which is the work of this package:  DATABASE_URL=… node supabase_types.mjs

import pg from "pg";
import { generateTypescript, sortGeneratorMetadata } from "@supabase/postgrest-typegen/generation";
import { introspect } from "@supabase/postgrest-typegen/introspection";

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
const metadata = await introspect(pool, { includedSchemas: ["public"] });
process.stdout.write(await generateTypescript(sortGeneratorMetadata(metadata), { postgrestVersion: "13" }));
await pool.end();
