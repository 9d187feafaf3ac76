// Sets the chosen colours before the first paint; a module would run too late and flash.
{
  const chosen = localStorage.getItem('soma.theme');
  if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen;
}
