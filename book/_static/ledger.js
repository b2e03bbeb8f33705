// The filter of the claims page: shows the rows of the ledger that have a verdict and contain every given word.
// Without scripts the controls stay hidden and every row is shown.

document.addEventListener("DOMContentLoaded", () => {
  const filter = document.querySelector(".bn-filter");
  if (!filter) return;

  const verdict = filter.querySelector('[data-bn-filter="verdict"]');
  const text = filter.querySelector('[data-bn-filter="text"]');
  const count = filter.querySelector(".bn-filter__count");
  const rows = [...document.querySelectorAll("table.bn-ledger tbody tr:not(.bn-row--progress)")];
  // Read before MathJax replaces the formulas, so that their LaTeX can be searched.
  const claims = rows.map(row => ({ row, words: row.textContent.toLowerCase() }));
  const tables = new Set(rows.map(row => row.closest("table")));

  function apply() {
    const wanted = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const { row, words } of claims) {
      const hasVerdict = !verdict.value || row.classList.contains(`bn-row--${verdict.value}`);
      row.hidden = !(hasVerdict && wanted.every(word => words.includes(word)));
      shown += !row.hidden;
    }
    for (const table of tables) table.hidden = !table.querySelector("tbody tr:not([hidden])");
    const said = `${shown} of ${claims.length} claims`;
    if (count.textContent !== said) count.textContent = said;
  }

  filter.addEventListener("input", apply);
  // A browser that comes back to the page fills in the controls after it has loaded.
  window.addEventListener("pageshow", apply);
  filter.hidden = false;
  apply();
});
