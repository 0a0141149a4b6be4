// The words of signing in and out.
export const SIGN_IN = {
  sign_in: { en: "Sign in", zh: "登录" },
  sign_in_name: { en: "Name", zh: "用户名" },
  sign_in_password: { en: "Password", zh: "密码" },
  sign_in_with: { en: "Sign in with {name}", zh: "使用 {name} 登录" },
  sign_in_both: { en: "Enter name and password.", zh: "请输入用户名和密码。" },
  sign_in_wrong: { en: "Name or password is wrong.", zh: "用户名或密码错误。" },
  sign_in_wait: { en: "Too many attempts: try again in {s} s.", zh: "尝试次数过多:请在 {s} 秒后重试。" },
  sign_in_unavailable: { en: "The server does not answer: try again.", zh: "服务器无响应:请重试。" },
  sign_in_retrying: { en: "The server does not answer; trying again…", zh: "服务器无响应,正在重试…" },
  sign_in_refused_elsewhere: { en: "The other sign-in did not let you in.", zh: "统一登录未获通过。" },
  sign_in_no_way: { en: "Nobody can sign in here by name: ask the operator.", zh: "此处不能用用户名登录:请联系管理员。" },
  signed_in_no_screen: { en: "You are signed in; your role has no screen here yet.", zh: "您已登录;您的角色在此尚无屏幕。" },
  sign_out: { en: "Sign out", zh: "退出" },
};
