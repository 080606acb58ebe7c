// The button that prints: where scripts are off, the browser's own menu does.
const button = document.getElementById("print");
button.addEventListener("click", () => print());
button.hidden = false;
