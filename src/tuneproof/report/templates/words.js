"use strict";
// Which words of two texts the other one has not, in the same order: a longest common subsequence.
const differences = (() => {
  const MOST_CELLS = 16e6; // of the table that it takes: two answers of 4,000 words and spaces
  const TOKEN = /\s+|[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]|[\p{L}\p{M}\p{N}_'’]+|./gsu;
  const isWord = (text) => /[\p{L}\p{N}]/u.test(text);

  // For each text, which of its tokens are in the common subsequence; null where it is too much.
  function shared(a, b) {
    const inA = new Array(a.length).fill(false);
    const inB = new Array(b.length).fill(false);
    let start = 0;
    while (start < a.length && start < b.length && a[start] === b[start]) {
      inA[start] = inB[start] = true;
      start += 1;
    }
    let [endA, endB] = [a.length, b.length];
    while (endA > start && endB > start && a[endA - 1] === b[endB - 1]) {
      endA -= 1;
      endB -= 1;
      inA[endA] = inB[endB] = true;
    }
    const [n, m] = [endA - start, endB - start];
    if ((n + 1) * (m + 1) > MOST_CELLS) return null;
    const width = m + 1;
    const longest = new Uint32Array((n + 1) * width);
    for (let i = n - 1; i >= 0; i -= 1) {
      for (let j = m - 1; j >= 0; j -= 1) {
        const here = i * width + j;
        longest[here] =
          a[start + i] === b[start + j]
            ? longest[here + width + 1] + 1
            : Math.max(longest[here + width], longest[here + 1]);
      }
    }
    for (let i = 0, j = 0; i < n && j < m; ) {
      if (a[start + i] === b[start + j]) {
        inA[start + i] = inB[start + j] = true;
        i += 1;
        j += 1;
      } else if (longest[(i + 1) * width + j] >= longest[i * width + j + 1]) i += 1;
      else j += 1;
    }
    return [inA, inB];
  }

  // Runs of tokens that are alone, or not. A space or a comma between two lone words is alone too.
  function runs(tokens, known) {
    const alone = known.map((is, i) => !is || (!isWord(tokens[i]) && i > 0 && !known[i - 1] && known[i + 1] === false));
    const found = [];
    for (let i = 0; i < tokens.length; ) {
      let end = i + 1;
      while (end < tokens.length && alone[end] === alone[i]) end += 1;
      const text = tokens.slice(i, end).join("");
      found.push({ alone: alone[i] && isWord(text), text });
      i = end;
    }
    return found;
  }

  return (one, other) => {
    const [a, b] = [one.match(TOKEN) ?? [], other.match(TOKEN) ?? []];
    const found = shared(a, b);
    return found && [runs(a, found[0]), runs(b, found[1])];
  };
})();
