// Every way in which a proof is refused: a stable code and a sentence, as ledger/errors.py has them.
import { CODES } from "./tables.js";

/** `kind` is the class in Python: Malformed, Refused, ProofError or Unavailable. */
export class LedgerError extends Error {
  constructor(kind, code, message) {
    super(message || CODES[code]);
    this.kind = kind;
    this.code = code;
  }
}

const maker = (kind) => (code, message) => new LedgerError(kind, code, message);
export const malformed = maker("Malformed");
export const refused = maker("Refused");
export const proofError = maker("ProofError");
export const unavailable = maker("Unavailable");

/** What `examine` gives; where it throws a LedgerError, what `otherwise` makes of that. */
export function attempt(examine, otherwise) {
  try {
    return examine();
  } catch (error) {
    if (!(error instanceof LedgerError)) throw error;
    return otherwise(error);
  }
}
