// Points of the book's search: a chapter comes before pages that only list the titles of chapters.
var Scorer = {
  score: ([page, , , , points]) => points + (page.startsWith("notebooks/") ? 3 : 0),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
