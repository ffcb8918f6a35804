// What the proofs in `tests/browser` and `tests/editor` share: a check counts, prints one line, and never ends the program.

const results = [];

// Runs a check; what it throws is printed in part.
export const check = async (what, run) => {
  try {
    await run();
    results.push(true);
    console.log(`ok    ${what}`);
  } catch (error) {
    results.push(false);
    console.log(`FAIL  ${what}\n      ${String(error.message ?? error).split('\n').slice(0, 40).join('\n      ')}`);
  }
};

export const expect = (isTrue, message) => {
  if (!isTrue) throw new Error(message);
};

// Prints the sum; whether all held.
export const finish = (where) => {
  const failed = results.filter((held) => !held).length;
  console.log(`${where}: ${results.length - failed} passed, ${failed} failed`);
  return failed === 0;
};
