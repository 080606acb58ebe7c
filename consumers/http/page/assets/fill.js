// A view set into a template (templates/answer.html): text only, never markup.

/** The template's contents, filled. */
export function fillTemplate(template, view) {
  const content = template.content.cloneNode(true);
  fillElements(content, view);
  return content;
}

function fillElements(root, view) {
  const all = (name) => root.querySelectorAll(`[data-${name}]`);
  // Lists first: what is in them is filled from their items and is of no concern afterwards.
  for (const list of all("each")) {
    const prototype = list.firstElementChild;
    list.replaceChildren(...view[list.dataset.each].map((item) => filled(prototype, item)));
  }
  for (const element of all("if")) {
    if (!view[element.dataset.if]?.length) element.remove();
  }
  for (const element of all("text")) element.textContent = view[element.dataset.text];
  for (const element of all("class")) element.classList.add(view[element.dataset.class]);
  for (const element of all("icon")) element.setAttribute("href", `#icon-${view[element.dataset.icon]}`);
  for (const element of root.querySelectorAll("*")) {
    for (const name of ["if", "each", "text", "class", "icon"]) delete element.dataset[name];
  }
}

function filled(prototype, item) {
  const holder = document.createDocumentFragment();
  holder.append(prototype.cloneNode(true));
  fillElements(holder, item);
  return holder.firstElementChild;
}
